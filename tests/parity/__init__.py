"""Reference outputs of other people's code against the library: `make parity`
(`tests/run_parity.py`).

A case is NAME.json, which says whose code was called and how, and NAME.npz, with what it gave.
`cases` reads them, `adapters` does the same with the library, one adapter a kind of case,
`comparing` compares, and `runner` reports. Nothing follows from the name of a file. Numbers that no
adapter compares are listed.
"""
