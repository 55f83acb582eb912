# make demo [DATA=DIR] [WORDS=yes,stop] | keyword WORD=computer TAKES=DIR [NEGATIVES=DIR]
# make course DATA=DIR [IMAGES=DIR] [NEGATIVES=DIR] [COURSE=build/course]
# make test | test-all | test-all-long | fuzz | lint | format | bench | reference | loc | clean
PYTHON ?= python3
DATA ?= synthetic
WORDS ?= yes,stop
RUN ?= build/demo
PY = .venv/bin/python
C_FILES = $(shell git ls-files '*.c' '*.h' '*.cpp' '*.ino' ':!firmware/generated*')
ELF = $(RUN)/build/emulator/firmware.elf

.PHONY: setup setup-test demo keyword course test test-all test-all-long fuzz lint format bench reference loc clean

setup:
	@$(PYTHON) bootstrap.py

setup-test:
	@$(PYTHON) bootstrap.py test tf roofline tvm ray digits wakewords

# A spoken word from PyTorch to the (virtual) board; every line is a command of the README.
demo: setup
	$(PY) -m trainer train --data $(DATA) --words $(WORDS) --out $(RUN)
	$(PY) -m trainer qat $(RUN)
	$(PY) -m trainer export $(RUN)
	$(PY) -m trainer evaluate $(RUN)
	$(PY) -m converter convert $(RUN)
	$(PY) -m converter size $(RUN) --json $(RUN)/size.json
	$(PY) -m host build $(RUN)
	$(PY) -m converter verify $(RUN) --elf $(ELF) --json $(RUN)/checks.json
	rm -rf $(RUN)/clips
	$(PY) -m trainer clips $(RUN) --out $(RUN)/clips --per-class 3
	$(PY) -m host profile $(ELF) --layers --json $(RUN)/profile.json
	$(PY) -m host compare $(RUN) --profile $(RUN)/profile.json --json $(RUN)/compare.json
	$(PY) -m host trial $(ELF) $(RUN)/clips --run $(RUN) --times 1 --json $(RUN)/trial.json
	$(PY) -m host report $(RUN) --profile $(RUN)/profile.json --trial $(RUN)/trial.json \
		--compare $(RUN)/compare.json --checks $(RUN)/checks.json

# A word of your own, from takes to firmware and report: docs/own_keyword.md.
NEGATIVES ?= build/negatives
keyword:
	$(if $(and $(WORD),$(TAKES)),,$(error say which word and where its takes are: make keyword WORD=computer TAKES=DIR))
	@$(PYTHON) bootstrap.py keyword
	$(PY) -m trainer keyword --word "$(WORD)" --takes "$(TAKES)" --negatives "$(NEGATIVES)" --out "build/$(WORD)"

# Every figure, picture and table of docs/course.md again; goes on where it was stopped. Hours, on two cores.
COURSE ?= build/course
course:
	$(if $(filter synthetic,$(DATA)),$(error say where recordings are: make course DATA=DIR))
	@$(PYTHON) bootstrap.py roofline tvm digits
	$(PY) -m trainer study course --data "$(DATA)" --out "$(COURSE)" $(if $(IMAGES),--images "$(IMAGES)") \
		$(if $(wildcard $(NEGATIVES)),--negative "$(NEGATIVES)")

# The committed models' generated firmware, byte for byte; the tests compare.
reference: setup
	$(PY) -m converter convert reference --out firmware/generated
	$(PY) -m converter convert reference/spotter --out firmware/generated_spotter

test: setup-test
	$(PY) -m pytest -n 2 --dist worksteal -m "not slow"

test-all: setup-test
	$(PY) -m pytest -n 2 --dist worksteal -m "slow and not long"

# Hours of board time without a break (KWS_LONG_HOURS, 4); with KWS_LONG_FOLDER a stopped run goes on.
test-all-long: setup-test
	$(PY) -m pytest -s -m long

# Ten minutes of damaged files, kills and full disks; prints what failed.
fuzz:
	@$(PYTHON) bootstrap.py test tf roofline tvm ray digits wakewords fuzz
	$(PY) tests/support/fuzz.py

lint: setup-test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/clang-format --dry-run --Werror $(C_FILES)
	$(PY) -m mypy

format: setup-test
	$(PY) -m ruff format .
	.venv/bin/clang-format -i $(C_FILES)

bench: setup
	$(PY) -m host bench --json build/bench.json $(if $(SHORT),--short)

# Lines of product and tests by folder; a test holds the budget.
loc: setup
	@$(PY) tests/line/loc.py

clean:
	rm -rf build .pio
