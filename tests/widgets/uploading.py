"""Files as the browser hands them to a `FileUpload`, in the form of ipywidgets 7 and in that of ipywidgets 8."""

import datetime

import ipywidgets

MOMENT = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
VERSION = int(ipywidgets.__version__.split(".")[0])


def form_of_7(*files):
    """`FileUpload.value` as ipywidgets 7.7 documents it: a dictionary by name."""
    return {name: {"metadata": {"name": name, "type": "image/png", "size": len(content), "lastModified": 1767312000000},
                   "content": content} for name, content in files}


def form_of_8(*files):
    """`FileUpload.value` as ipywidgets 8 documents it: a tuple of dictionaries."""
    return tuple({"name": name, "type": "image/png", "size": len(content), "content": memoryview(content),
                  "last_modified": MOMENT} for name, content in files)


def choose(upload, *files):
    """What happens when a reader chooses `files`, (name, content) each, under the ipywidgets that is installed."""
    if VERSION >= 8:
        upload.value = form_of_8(*files)
        return
    given = form_of_7(*files)
    upload.metadata = [file["metadata"] for file in given.values()]
    upload.data = [file["content"] for file in given.values()]
    upload._counter += len(files)


def is_empty(upload):
    """Whether nothing is left that the browser would hand over again."""
    left = [] if VERSION >= 8 else [*upload.metadata, *upload.data, *range(upload._counter)]
    return len(upload.value) == 0 and not left
