"""Every figure that draws maps, tokens or patches, of pictures of 3 x 5 patches; the mark is in row 1 and column 4."""

import base64
import io
import re

import numpy
import pytest
import torch
from any_grid import inputs_of, made
from PIL import Image

from lightvit_lab import data, explain, figures
from lightvit_lab.dynamic.token_merging.merging import merge_tokens, source_map
from lightvit_lab.errors import LabError
from lightvit_lab.figures import overlay
from lightvit_lab.figures.gather import atlas
from lightvit_lab.widgets import album, attention, attention_views

IMAGE = torch.rand(3, 12, 20, generator=torch.Generator().manual_seed(0))
GRID, MARK = (3, 5), 1 * 5 + 4


def looking_at_the_mark(prefix=1):
    """(N, N) of 15 patches behind `prefix` tokens: all look at the mark alone."""
    weights = torch.zeros(prefix + 15, prefix + 15)
    weights[:, prefix + MARK] = 1
    return weights


def marked(cells):
    """Rows and columns where a map is highest."""
    cells = numpy.asarray(cells, dtype=float)
    return cells.shape, numpy.argwhere(cells == numpy.nanmax(cells)).tolist()


def sheets(card):
    """What each state of a film draws, (h, w, 4)."""
    return [numpy.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
            for text in re.findall(r'src="data:image/png;base64,([^"]+)"', card.html)]


def test_patches_stand_in_reading_order_and_what_they_leave_over_is_refused():
    picture = torch.zeros(3, 12, 20)
    picture[:, 4:8, 16:] = 1
    figure = figures.patch_sequence(picture, 4)
    assert [note.text for note in figure.layout.annotations] == ["3 x 5 patches", "15 tokens"]
    apart, numbers = figure.data[0], figure.data[1]
    x, y = numbers.x[MARK], numbers.y[MARK]
    left, top = round(x - 1.5), round(y + 1.5)           # the patch lies under its number
    assert (numpy.asarray(apart.z)[top:top + 4, left:left + 4] == 255).all() and numbers.text[MARK] == "9"
    for wrong in ((3, 12, 21), (3, 13, 20)):
        with pytest.raises(LabError, match="patch_sequence: image (height|width)=(13|21) is no multiple of 4"):
            figures.patch_sequence(torch.zeros(wrong), 4)


def test_maps_of_tokens_are_drawn_height_first():
    flow = looking_at_the_mark()
    depth = figures.rollout_by_depth(IMAGE, [flow, flow], grid=GRID)
    assert [marked(trace.z) for trace in depth.data if trace.type == "heatmap"] == 2 * [((3, 5), [[1, 4]])]
    sheet = figures.head_gallery(IMAGE, [flow.expand(2, -1, -1)] * 2, grid=GRID).data[1].z
    assert marked(sheet) == ((7, 11), [[1, 4], [1, 10], [5, 4], [5, 10]])
    frame = figures.pruned_heads(IMAGE, [flow.expand(2, -1, -1)] * 2, [(1, 0)], grid=GRID).layout.shapes[0]
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == pytest.approx((-0.9, 4.9, 3.1, 6.9))
    for draw in (lambda: figures.rollout_by_depth(IMAGE, [flow]), lambda: figures.head_gallery(IMAGE, [flow[None]])):
        with pytest.raises(LabError, match=r"16 tokens, 1 of them in front, form no square; give grid="):
            draw()


def test_global_tokens_and_maps_beside_pictures_are_drawn_height_first():
    taken, handed = torch.zeros(1, 2, 1, 15), torch.zeros(1, 2, 15, 1)
    taken[..., MARK], handed[..., MARK, :] = 1, 1
    figure = figures.global_tokens(IMAGE[None], taken, handed, grid=GRID)
    assert [marked(trace.z) for trace in figure.data if trace.type == "heatmap"] == 2 * [((3, 5), [[1, 4]])]
    cells = torch.zeros(1, 3, 5)
    cells[0, 1, 4] = 1
    beside = figures.pictures_and_maps(IMAGE[None], [cells], ["one"], "share")
    assert numpy.asarray(beside.data[0].z).shape == (24, 40, 3) and marked(beside.data[1].z) == ((3, 5), [[1, 4]])


def test_a_map_over_its_picture_marks_the_pixels_of_its_patch():
    cells = torch.zeros(3, 5)
    cells[1, 4] = 1
    drawn = overlay.blend(torch.full((3, 12, 20), 0.5), cells)
    other = (drawn != drawn[0, 0]).any(-1)
    assert numpy.argwhere(other).min(0).tolist() == [4, 16] and numpy.argwhere(other).max(0).tolist() == [7, 19]
    assert other.sum() == 16


@pytest.mark.parametrize("given", [
    {"attention": [looking_at_the_mark().expand(1, 2, -1, -1)]}, {"flows": {"rollout": looking_at_the_mark()[None]}},
    {"grids": {"map": looking_at_the_mark(0)[0].view(1, 3, 5)}},
    {"grids": {"map": looking_at_the_mark(0)[0].view(1, 3, 5), "fine": torch.rand(1, 12, 20)}}], ids=lambda one: "+".join(one))
def test_the_explorer_says_and_frames_the_patch_by_row_and_column(given):
    grid = None if "grids" in given else GRID
    shown = figures.explorer(IMAGE[None], ["one"], "All look at a single patch.", grid=grid, **given)
    assert shown.atlas.grid == GRID and "row 1, column 4" in shown.atlas.describe(shown.atlas.start())
    place = shown.atlas.start()._replace(query=shown.atlas.prefix + MARK)
    assert shown.atlas.frame(place) == (16, 4, 20, 8)                 # left, top, right, bottom in pixels
    page = shown._repr_html_()
    assert '"rows":3,"columns":5' in page and '"height":12,"width":20' in page


def test_a_map_as_fine_as_an_oblong_picture_is_read_by_patches_that_divide_both_sides():
    found = atlas(IMAGE[None], ["one"], grids={"fine": torch.rand(1, 12, 20)})
    assert found.grid == (12, 10) and found.lookup(found.start()).patches.shape == (12, 10)


def test_patches_that_are_gone_are_greyed_where_they_lie():
    red = torch.ones(1, 3, 12, 20) * torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
    _, sheet = sheets(figures.kept_by_block(red, [torch.tensor([[MARK]])], ["one"], patch_size=4))
    kept = (sheet == [255, 0, 0, 255]).all(-1)
    assert sheet.shape[:2] == (120, 200) and kept.sum() == 40 * 40 and kept[40:80, 160:].all()


@torch.no_grad()
def test_merged_patches_have_borders_and_colours_where_they_lie():
    model = merge_tokens(made(), 2)
    model(inputs_of())
    places = source_map(model)[:, 1:] - 1
    assert "After 1 block" in figures.merged_regions(inputs_of().sigmoid(), [places, places], grid=GRID).html
    alone = torch.zeros(1, 15, dtype=torch.long)
    alone[0, MARK] = 1                                     # all are one token, but for the mark
    sheet = sheets(figures.merged_regions(IMAGE[None], [alone, alone], grid=GRID))[1]
    assert sheet.shape == (120 + 12 + 120, 200, 4)
    white = (sheet[:120] == 255).all(-1)
    frame = {(y, x) for y in range(39, 81) for x in range(159, 200) if y in (39, 40, 79, 80) or x in (159, 160)} - {(39, 159), (80, 159)}
    assert {tuple(place) for place in numpy.argwhere(white).tolist()} == frame
    wanted = (IMAGE[:, 4:8, 16:].mean((1, 2)) * 255).round().tolist()
    painted = sheet[132:, :, :3].astype(int)
    assert abs(painted[40:80, 160:] - wanted).max() <= 1 and len(numpy.unique(painted.reshape(-1, 3), axis=0)) == 2
    with pytest.raises(LabError, match="15 tokens, 0 of them in front, form no square; give grid="):
        figures.merged_regions(IMAGE[None], [alone, alone])


def oblong(count=2):
    pixels = torch.randint(0, 255, (count, 3, 12, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    half = torch.full((3,), 0.5)
    return data.Pictures("made up", "test", pixels, torch.zeros(count, dtype=torch.long), tuple("abcdefghij"), half, half)


@pytest.mark.parametrize("kind", ["patches", "distilled", "lab_lightvit"])
def test_boxes_of_whole_models_show_oblong_pictures(kind, monkeypatch):
    from lightvit_lab.widgets import views

    monkeypatch.setattr(views, "display", lambda _: None)
    model, pictures = made(kind), oblong()
    box = attention_views(model, pictures)
    assert box.figure is not None and box.message.value == ""
    with torch.no_grad(), explain.record_attention(model) as maps:
        model(pictures.inputs[:1])
    if kind == "lab_lightvit":
        heat = numpy.asarray(next(trace for trace in box.figure.data if trace.type == "heatmap").z)
        taken = maps[0]["aggregation"].mean(1)[0, 0].view(3, 5) * 15
        assert heat.shape == (3, 5) and heat == pytest.approx(taken.numpy(), abs=2e-3)
        return
    first = [row[:5] for row in box.figure.data[1].z[:3]]
    read = slice(0, 2 if kind == "distilled" else 1)
    wanted = maps[0][0, 0, read, -15:].mean(0).view(3, 5) * maps[0].shape[-1]
    assert numpy.asarray(first, dtype=float) == pytest.approx(wanted.numpy(), abs=2e-3)
    for view in box.view.options:
        box.view.value = view
        assert box.message.value == ""


def test_a_reader_s_own_picture_is_cut_to_the_shape_of_the_others():
    pictures = album.Album("test", made(), oblong(), tuple("abcdefghij"))
    file = io.BytesIO()
    tall = numpy.zeros((100, 40, 3), dtype=numpy.uint8)
    tall[40:60] = 200                                      # the band in the middle, which a cut of 24 x 40 keeps
    Image.fromarray(tall).save(file, "PNG")
    added = pictures.add("own.png", file.getvalue())
    assert pictures.images.shape == (3, 3, 12, 20) and pictures.images[added, 0, 6, 10] > 0.7
    assert made()(pictures.inputs(slice(added, added + 1))).shape == (1, 10)


def test_the_attention_box_looks_from_patches_by_row_and_column():
    box = attention.attention_explorer(made(), oblong())
    assert (box.row.max, box.column.max) == (2, 4)
