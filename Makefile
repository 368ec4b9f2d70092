# make demo      fine-tune a shipped network to scikit-learn's digits, export it, predict
# make test      run the tests
# make test-all  run the tests on every Python from 3.8 to 3.11 that is installed
# make lint      run the linter
# make sanitize  run the tests of the compiled operators under AddressSanitizer and UBSan (needs GCC's libraries)
# make clean     remove the environments and what was built
#
# PYTHON=python3.9 chooses the interpreter, MXNET=cu117 another build of MXNet (the extras of setup.py).

VENV := .venv
MXNET := cpu
PY := $(VENV)/bin/python

# Runs only where this Python is in range and can make an environment.
PROBE := import ensurepip, sys; v = sys.version_info[:2]; (3, 8) <= v < (3, 12) or sys.exit(1); print('%d.%d' % v)
find = for p in $(1); do "$$p" -c "$(PROBE)" >/dev/null 2>&1 && echo "$$p" && break; done

ifndef PYTHON
PYTHON := $(shell $(call find,python3.11 python3.10 python3.9 python3.8 python3))
endif
VERSION := $(if $(PYTHON),$(shell "$(PYTHON)" -c "$(PROBE)" 2>/dev/null))
# Named after what it was made for, so that another PYTHON or MXNET makes it anew.
INSTALLED := $(VENV)/.installed-$(VERSION)-$(MXNET)

.PHONY: help demo test test-all lint sanitize clean

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

demo: $(INSTALLED)
	$(PY) examples/digits.py

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile

lint: $(INSTALLED)
	$(PY) -m ruff check .

# In a copy, beside which the installed operators stay what they are. Python and MXNet leak at exit by design.
SANITIZED := build/sanitize
sanitize: $(INSTALLED)
	rm -rf $(SANITIZED)
	mkdir -p $(SANITIZED)
	cp -R gluon_aff model_zoo benchmarks tests setup.py pyproject.toml README.md $(SANITIZED)
	rm -f $(SANITIZED)/gluon_aff/_compiled.*
	cd $(SANITIZED) && flags='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1' && \
		CFLAGS="$$flags" CXXFLAGS="$$flags" LDFLAGS="$$flags" $(abspath $(PY)) setup.py -q build_ext --inplace
	grep -q __asan_init $(SANITIZED)/gluon_aff/_compiled.*
	cd $(SANITIZED) && LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=. OMP_NUM_THREADS=2 \
		$(abspath $(PY)) -m pytest -q -p no:cacheprovider tests/test_compiled.py

$(INSTALLED): setup.py constraints.txt gluon_aff/compiled.cc
	$(if $(VERSION),,$(error gluon_aff needs Python 3.8 to 3.11 with its venv module, and \
	$(if $(PYTHON),$(PYTHON) is not that,none is on PATH); install one, or give its path as PYTHON=/path/to/python3.11))
	"$(PYTHON)" -m venv --clear $(VENV)
	$(PY) -m pip install -q -U -c constraints.txt pip setuptools
	$(PY) -m pip install -q -c constraints.txt --no-build-isolation -e '.[$(MXNET),train,dev]'
# Once more, now that MXNet's headers are there for the compiled operators.
	$(PY) -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

# pyenv's own commands refuse a version that is not active, so its folder is looked into as well.
test-all:
	@found=0; failed=0; table=; \
	for v in 3.8 3.9 3.10 3.11; do \
		p=$$($(call find,python$$v "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$v.*/bin/python)); \
		if [ -z "$$p" ]; then result='not installed'; \
		elif $(MAKE) test PYTHON="$$p" VENV=.venv-$$v; then found=1; result=passed; \
		else found=1; failed=1; result=FAILED; fi; \
		table="$$table$$(printf 'Python %-5s %-14s %s' "$$v" "$$result" "$$p")|"; \
	done; \
	printf '%s' "$$table" | tr '|' '\n'; \
	[ $$found = 1 ] || echo 'No Python from 3.8 to 3.11 was found.' >&2; \
	[ $$found = 1 ] && [ $$failed = 0 ]

clean:
	rm -rf .venv .venv-3.* build dist *.egg-info .pytest_cache .ruff_cache .hypothesis gluon_aff/_compiled.*
	find gluon_aff model_zoo tests -name __pycache__ -prune -exec rm -rf {} +
