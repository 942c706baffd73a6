"""Uploaded files, in the form of ipywidgets 7 (which Colab has) and in that of ipywidgets 8."""

import ipywidgets
import pytest
from uploading import choose, form_of_7, form_of_8, is_empty

from lightvit_lab import data, models, widgets
from lightvit_lab.widgets.boxes import STILL, empty_upload, uploaded_files

FILES = [("own.png", b"first"), ("größer <2>.jpg", b"\x00\xff"), ("empty.webp", b"")]


@pytest.mark.parametrize("form", [form_of_7, form_of_8])
def test_names_and_contents_are_read_from_the_form_of_ipywidgets_7_and_of_8(form):
    assert uploaded_files(form(*FILES)) == FILES
    assert uploaded_files(form()) == []
    assert all(type(content) is bytes for _, content in uploaded_files(form(*FILES)))


def test_an_emptied_upload_takes_the_same_file_again_and_says_so_each_time():
    upload, seen = ipywidgets.FileUpload(), []
    upload.observe(lambda change: seen.append(uploaded_files(change["new"])), "value")
    for _ in range(2):
        choose(upload, FILES[0])
        assert uploaded_files(upload.value) == FILES[:1]
        empty_upload(upload)
        assert is_empty(upload)
    assert seen == [FILES[:1], [], FILES[:1], []]


BOXES = {"models": lambda: widgets.compare_models("lab_cnn", "lab_cct", (3, 32, 32)),
         "attention": lambda: widgets.attention_explorer(models.create_model("lab_vit_student"),
                                                         data.load("shapes", "test", count=2))}


@pytest.mark.parametrize("name", BOXES)
def test_a_front_end_without_widgets_gets_the_twin_that_needs_no_kernel(name):
    bundle = BOXES[name]()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert STILL in bundle["text/html"] and "<script" in bundle["text/html"]


@pytest.mark.parametrize("box", [lambda: widgets.compare_models("lab_cnn", "lab_cnm"),
                                 lambda: widgets.attention_views(models.create_model("lab_vit_student"),
                                                                 data.load("shapes", "test", count=1))])
def test_a_box_with_nothing_to_show_or_without_a_twin_is_displayed_all_the_same(box):
    bundle = box()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle and "text/html" not in bundle
