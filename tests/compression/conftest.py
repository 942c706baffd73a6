"""Here so that the tests in the folders below find `small_models`: pytest adds this folder."""
