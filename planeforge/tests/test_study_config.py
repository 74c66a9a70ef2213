"""STUDY.toml: what is refused, in one line, before any work."""

import re

import pytest

from planeforge import study_config
from planeforge.cli import main
from planeforge.demo.run import STUDY

FORMAT = '[[formats]]\nmethod = "rtn"\n'

STUDY_KEYS = (
    "title, model, text, calibration, windows, calibration_windows, act_bits, tokens, tech, dram, threads, "
    "pe, array, formats"
)
ARRAY_KEYS = (
    "rows, columns, clock_hz, weight_buffer_bits, activation_buffer_bits, dram_bits_per_cycle, dataflow, "
    "outer, planes, buffers, result_buffer_bits, dram_latency, scale_clocks, skip, pack_kept, network, "
    "operand_registers"
)

REFUSED = {
    "no formats": ("", "formats must be given"),
    "an empty list of formats": ("formats = []", "formats must hold at least one entry, not []"),
    "no method": ('[[formats]]\nlabel = "x"', "formats[0].method must be given"),
    "an unknown key": (
        "windwos = 3\n" + FORMAT,
        f"study must name only {STUDY_KEYS}, not 'windwos'",
    ),
    "a mistyped key of a format": (
        '[[formats]]\nmehtod = "rtn"',
        "formats[0] must name only method, format, label, set, not 'mehtod'",
    ),
    "an unknown key of the array": (
        FORMAT + "[array]\nlanes = 8",
        f"array must name only {ARRAY_KEYS}, not 'lanes'",
    ),
    "text for a number": ('windows = "8"\n' + FORMAT, "windows must be a valid integer, not '8'"),
    "too few windows": ("windows = 1\n" + FORMAT, "windows must be greater than or equal to 2, not 1"),
    "too many bits": ("act_bits = 21\n" + FORMAT, "act_bits must be less than or equal to 20, not 21"),
    "a number for a table": ("pe = 3\n" + FORMAT, "pe must be a table, not 3"),
    "a table for a list": ("[formats]\nmethod = 3", "formats must be an array of tables, not {'method': 3}"),
    "an unknown method": (
        FORMAT + '[[formats]]\nmethod = "magic"',
        "formats[1]: method must be one of billm, rtn, sign, ternary, not 'magic'",
    ),
    "a format the method does not take": (
        FORMAT + 'format = "sign-g128"',
        "formats[0]: format must be one of int4-g128, int8-g128, int3-g128, int2-g128, not 'sign-g128'",
    ),
    "an unknown setting": (
        FORMAT + "set = { size = 3 }",
        "formats[0]: set must name one of group, not 'size'",
    ),
    "a setting out of range": (FORMAT + "set = { group = 0 }", "formats[0]: group must be at least 1, not 0"),
    "an unknown PE": (FORMAT + '[pe]\nname = "magic"', "pe must be one of bitserial, not 'magic'"),
    "an unknown parameter": (
        FORMAT + "[pe]\nparameters = { width = 3 }",
        "pe parameter must be one of lanes, acc_width, levels, not 'width'",
    ),
    "a narrow accumulator": (
        FORMAT + "[pe]\nparameters = { acc_width = 4 }",
        "acc_width must be at least 8, not 4",
    ),
    "no array": (FORMAT + "[array]\nrows = 0", "rows must be at least 1, not 0"),
    "no model": (
        'model = "nowhere"\n' + FORMAT,
        "model must be a Hugging Face directory or 'demo', not 'nowhere'",
    ),
    "no text": ('text = "no.txt"\n' + FORMAT, "text must be an existing text file or 'demo', not 'no.txt'"),
    "no calibration": (
        'calibration = "no.txt"\n' + FORMAT,
        "calibration must be an existing text file or 'demo', not 'no.txt'",
    ),
    "one label twice": (FORMAT + FORMAT, "label must be given to one row only, not 'rtn' to two"),
    "the reference's label": (
        FORMAT + 'label = "fp16"',
        "label must be given to one row only, not 'fp16' to two",
    ),
}


def read(tmp_path, text):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return study_config.load(path)


@pytest.mark.parametrize("case", REFUSED)
def test_a_study_is_refused_in_words_that_name_the_entry(tmp_path, case):
    text, message = REFUSED[case]
    head, listing, tail = message.partition("one of ")
    members, _, given = tail.rpartition(", not ")
    # A family may have grown by a member since: those written here must be among the ones listed.
    pattern = re.escape(head) + (f"one of (.*), not {re.escape(given)}" if listing else "")
    with pytest.raises(ValueError, match=rf"^.*study\.toml: {pattern}$") as caught:
        read(tmp_path, text)
    if listing:
        listed = re.search(pattern, str(caught.value))[1]
        assert set(members.split(", ")) <= set(listed.split(", "))


@pytest.mark.parametrize("key", ["tech", "dram"])
def test_an_unknown_technology_or_memory_is_refused_with_the_choices(tmp_path, key):
    from cost_models import tech

    members = ", ".join(tech.names() if key == "tech" else tech.drams())
    with pytest.raises(ValueError, match=rf"study\.toml: {key} must be one of {members}, not 'magic'$"):
        read(tmp_path, f'{key} = "magic"\n{FORMAT}')


def test_a_technology_that_cannot_price_the_array_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"tech must be one with a constant 'sram_area', not 'generic_ge'$"):
        read(tmp_path, f'tech = "generic_ge"\n{FORMAT}')


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"study\.toml must be TOML: "):
        read(tmp_path, "windows = = 3")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^study must be an existing TOML file, not '.*no\.toml'$"):
        study_config.load(tmp_path / "no.toml")


def test_the_command_refuses_in_one_line_and_leaves_nothing_behind(tmp_path, capsys):
    path = tmp_path / "study.toml"
    path.write_text('[[formats]]\nmethod = "magic"')
    assert main(["compare", str(path), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "not 'magic'" in error
    assert [p.name for p in tmp_path.iterdir()] == ["study.toml"]


def test_paths_start_at_the_study_and_names_default_to_method_and_format(tmp_path):
    (tmp_path / "own.txt").write_text("text")
    study = read(
        tmp_path, 'text = "own.txt"\n' + FORMAT + '[[formats]]\nmethod = "rtn"\nformat = "int2-g128"'
    )
    assert study.text == (tmp_path / "own.txt").resolve()
    assert [entry.label for entry in study.entries] == ["rtn", "rtn int2-g128"]
    assert [entry.format for entry in study.entries] == ["int4-g128", "int2-g128"]


def test_settings_reach_the_methods_configuration_and_the_array(tmp_path):
    study = read(
        tmp_path,
        FORMAT + "set = { group = 32 }\n[pe]\nparameters = { lanes = 16 }\n[array]\nrows = 3\nclock_hz = 1e9",
    )
    assert study.entries[0].config.group == 32
    assert (study.array.pe.lanes, study.array.rows, study.array.clock_hz) == (16, 3, 1e9)


def test_the_built_in_study_holds_the_formats_it_promises():
    study = study_config.load(STUDY)
    found = {(entry.method, entry.format) for entry in study.entries}
    promised = {("rtn", f"int{bits}-g128") for bits in (8, 4, 2)}
    promised |= {("sign", "sign-g128"), ("ternary", "ternary-g128"), ("billm", None)}
    assert promised <= found
