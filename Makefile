# make book · make serve · make downloads · make slides · make handouts · make lab · make test · make lint · make colab · make clean:
# each sets up what it needs.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
SITE := _build/html

START := $(shell date +%s)

.NOTPARALLEL:
.PHONY: book serve downloads pdf slides lab handouts test lint unit notebooks site colab clean

# Sphinx does not repeat the warnings of pages that it has read: after a failure it must read them all. So it must when what makes
# pages of notebooks has changed, of which it knows nothing.
# What it warns of is kept, and said last, where one looks for it.
book: .venv/ready
	@test -e _build/good && test -z "$$(find book/_ext book/_static -type f -newer _build/good -not -name '*.pyc')" || rm -rf _build/.doctrees
	@rm -f _build/good
	@mkdir -p _build
	@date +%s >_build/began
	$(BIN)/jupyter-book build . -n -W --keep-going 2>_build/warnings || { cat _build/warnings >&2; exit 1; }
	@touch _build/good
	@$(BIN)/python book/_ext/budgets.py book $$(($$(date +%s) - $$(cat _build/began)))
	@echo "The site is at file://$(CURDIR)/$(SITE)/index.html"

serve: book
	@echo "The site is at http://localhost:$(PORT) until you press Ctrl-C"
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(SITE)

# Beside the site's pages: PDF, EPUB, handouts, archives, and slides for teaching.
downloads: slides
	PYTHONPATH=tests $(BIN)/python book/_ext/downloads.py

pdf: book
	PYTHONPATH=tests $(BIN)/python book/_ext/pdf.py

slides: book
	$(BIN)/python book/_ext/decks.py

lab: .venv/ready
	$(BIN)/jupyter lab book

# For lecturers: problem sets without their solutions and what marks them, and chapters without solutions. PROBLEMS may be a folder
# of your own.
PROBLEMS ?= problems
handouts: .venv/ready
	$(BIN)/python -m pgcourse.teaching.handouts $(PROBLEMS) book _build/handouts

test: BUDGETS := --budgets $(START)
test: lint unit book notebooks downloads site

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Of these three, what passed is not repeated until something changes that it depends on: conftest.py. Frames of the Control Suite are
# rendered without a screen, by libegl1 and libgl1-mesa-dri on Debian: .ci/run installs them.
unit: .venv/ready _build/ipywidgets7/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest --changed --durations 20 -n 2 --dist loadfile --ignore tests/test_site.py --ignore tests/test_downloads.py

# The notebooks as a student runs them, with live sliders: every output is the published one, and every frame of a slider. Two at
# once, which must not disturb each other; and they write nothing beside themselves, nor into the package.
notebooks: book
	@$(BIN)/python tests/student/notebooks.py _build/executed _build/student
	PYTHONPATH=$(CURDIR)/tests/student OMP_NUM_THREADS=1 $(BIN)/pytest --changed -n 2 --dist loadfile --no-loadscope-reorder \
	  --nbval --nbval-sanitize-with tests/sanitize.cfg _build/student

site: downloads
	$(BIN)/pytest --changed -n 2 tests/test_downloads.py
	$(BIN)/pytest --changed $(BUDGETS) -n 2 --dist loadgroup tests/test_site.py

# Every chapter, with what Colab has.
colab: _build/colab/ready
	_build/colab/bin/pytest -n 2 --dist loadfile --nbval-lax book

_build/colab/ready: colab.txt pyproject.toml
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --requirement colab.txt
	$(@D)/bin/pip install --quiet --no-deps $(SUITE)
	@touch $@

clean:
	rm -rf .venv _build *.egg-info

# From Python 3.13 on it has to be installed without its dependencies: pyproject.toml says why.
SUITE := $(shell sed -n 's/^\(dm-control[^;]*\);.*/\1/p' requirements.txt)

# Where uv is, it does what venv and pip do, in less time.
ifneq ($(shell command -v uv),)
VENV := uv venv --quiet --clear --seed --python $(PYTHON)
INSTALL := UV_EXTRA_INDEX_URL="$(PIP_EXTRA_INDEX_URL)" uv pip install --quiet --index-strategy unsafe-best-match --python .venv
else
VENV := $(PYTHON) -m venv --clear
INSTALL := $(BIN)/pip install --quiet
endif

# The environment is made anew for another Python, or in another place.
SETUP := $(PYTHON) in $(CURDIR)
ifneq ($(SETUP),$(shell cat .venv/ready 2>/dev/null))
.PHONY: .venv/ready
endif

.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; choose one with: make PYTHON=python3.12")'
	$(VENV) .venv
	$(INSTALL) --requirement requirements.txt
	$(INSTALL) --no-deps $(SUITE)
	@echo "$(SETUP)" >$@

# What Colab has; the live sliders are tested with it too.
_build/ipywidgets7/ready: .venv/ready
	$(INSTALL) --no-deps --upgrade --target $(@D) ipywidgets==7.7.1 ipython-genutils==0.2.0
	@touch $@
