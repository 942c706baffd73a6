"""Uploaded files, in the form of ipywidgets 7 (which Colab has) and in that of ipywidgets 8."""

import ipywidgets
import pytest
from uploading import choose, form_of_7, form_of_8, is_empty

from lightvit_lab.widgets.boxes import empty_upload, uploaded_files

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
