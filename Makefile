# Two commands do all the set-up: `make quickstart` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart install test sanitize lint docs clean

quickstart: install
	$(BIN)/wellread data get pubmed-sample
	-$(BIN)/wellread data get general-vocabulary
	$(BIN)/wellread run recipes/quickstart.toml

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Wellread needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	$(BIN)/python -m wellread.sparsity.kernels.build
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,deploy]'
	touch $@

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# The kernels' tests under the address and undefined-behaviour sanitizers; they stop at the first finding.
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1

sanitize: $(VENV)/.installed-test
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=2 WELLREAD_KERNEL_FLAGS="$(SANITIZE)" \
	$(BIN)/python -m pytest tests/sparsity/test_sparsity_product.py tests/models/test_models_fused.py tests/models/test_models_attention.py tests/models/test_models_dropout.py tests/compress/binarise/test_binarise_product.py -p no:cacheprovider

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m wellread.reference --check

docs: $(VENV)/.installed
	$(BIN)/python -m wellread.reference

clean:
	rm -rf $(VENV) build dist src/*.egg-info
