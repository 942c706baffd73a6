"""What pyproject.toml cannot say: packages as they lie in the tree, and two folders of book/."""

from setuptools import find_packages, setup

DATA = ["lightvit_lab.stored_results", "lightvit_lab.stored_zoo"]
setup(packages=[*find_packages(include=["lightvit_lab", "lightvit_lab.*"]), *DATA])
