# What is run most often while developing; .ci/run does all of it in an environment of its own.
.PHONY: fast test lint

fast:
	pytest -q tests/sampling tests/test_architecture.py tests/test_docs.py tests/test_errors.py tests/test_settings.py tests/test_sizes.py tests/cli/test_help.py tests/restore/test_colour.py tests/weights/test_lock.py

test:
	pytest

lint:
	ruff check .
	ruff format --check .
	mypy
