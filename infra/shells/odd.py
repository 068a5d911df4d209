"""odd.py [--long [NAME...]]: scripts and programs do in odd shells and at odd paths what they do in a plain one.

Without an argument: what starts no server. The scripts of this checkout, whose world is up, and of copies of it under `.run` are called in each
environment and at each path, and must say what they say in a plain one, or refuse the path in one sentence. With --long each environment, and the
oddest path, has a world of its own in such a copy: `make up services demo`. The copies link this build's programs. The last line has the figures;
exit status 1 where anything falls short. Called by `make odd-shells` and `make odd-shells-long`.
"""

import fcntl
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
OWN = ROOT / ".run/odd-shells"
PATIENCE = 120
LONG_PATIENCE = 900

# Nobody listens there.
NOWHERE = "127.0.0.1:9"
# Of this process's own environment: where tools and programs are on this machine, and what this checkout was built with, or it were built anew.
HEARD = ("HOME", "PATH", "JAVA_HOME", "QUADRILLE_CACHE", "XDG_CACHE_HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_INCREMENTAL", "RUSTFLAGS")
PORTS = ("KAFKA", "KAFKA_CONTROLLER", "KAFKA_SECURED", "REGISTRY", "POSTGRES", "PAYMENT", "CARRIER", "SMTP", "MAIL", "SERVICES")

# Each is a folder's name for a checkout.
PATHS = ("plain", "José", "日本", "R&D", "a,b", "a b", "%20", "#1", "$HOME", "it's", 'a "b"', "back\\slash", "[x]*?", "-dash", "@KAFKA_DATA@", "{a;b}|c")
ODDEST = "-José, R&D #1 %20 $HOME 'q' \"d\" \\b [x]* {a;b}|c 日本"
# Where the scripts work, and librdkafka does not come to be.
UNBUILT = tuple(name for name in PATHS if set(name) & set("[] \"#$&'()*;<>?\\`{|}~!"))
REFUSED = {b"a:b": "a colon", b"a\nb": "a line break", b"a\n": "a line break", b"a\x07b": "a line break", b"caf\xe9": "bytes that are not UTF-8"}


def environments():
    """What a user's shell may have set, by name: None for what it lacks."""
    other = OWN / "another checkout"
    files = {
        "startup": "echo A start-up file was read; cd /; ROOT=/\n",
        ".curlrc": f"proxy = {NOWHERE}\ninclude\n",
        "kcat.conf": "security.protocol=ssl\n",
    }
    for name, text in files.items():
        (OWN / name).write_text(text)
    proxies = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    turkish = "-Duser.language=tr -Duser.country=TR -Dfile.encoding=ISO-8859-1"
    return {
        "CDPATH": {"CDPATH": f"{other}:.:{OWN}"},
        "start-up files": {"BASH_ENV": str(OWN / "startup"), "ENV": str(OWN / "startup")},
        "shell options": {
            "SHELLOPTS": "allexport:braceexpand:noclobber:noglob:nounset:posix:xtrace",
            "BASHOPTS": "failglob:nocasematch:xpg_echo",
            "POSIXLY_CORRECT": "1",
            "BASH_COMPAT": "31",
            "FUNCNEST": "1",
            "TMOUT": "1",
            "IFS": "/",
        },
        "functions": {f"BASH_FUNC_{name}%%": "() { echo another one; }" for name in ("cd", "dirname", "cat", "grep", "kill", "printf")},
        "Turkish": turkish_locale() | {name: turkish for name in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")},
        "proxies": {name: f"http://{NOWHERE}" for name in proxies} | {"no_proxy": "example.com"},
        "curl and kcat": {"CURL_HOME": str(OWN), "XDG_CONFIG_HOME": str(OWN), "KCAT_CONFIG": str(OWN / "kcat.conf")},
        "grep, time and more": {"GREP_OPTIONS": "-v", "GREP_COLOR": "1", "TZ": "Asia/Tokyo", "COLUMNS": "1", "TMPDIR": "/nonexistent"},
        "make": {"MAKEFLAGS": "-j8", "local": "/nonexistent", "world": "/nonexistent", "shows": "none", "SHELL": "/bin/sh"},
        "PostgreSQL": {
            "PGHOSTADDR": "192.0.2.1",
            "PGPORT": "1",
            "PGDATABASE": "none",
            "PGSERVICE": "none",
            "PGSSLMODE": "verify-full",
            "PGOPTIONS": "-c search_path=none",
            "PGTARGETSESSIONATTRS": "standby",
            "PGCLIENTENCODING": "LATIN1",
            "PGDATA": "/nonexistent",
        },
        "Java": {
            "CLASSPATH": "/nonexistent",
            "KAFKA_HEAP_OPTS": "-Xmx1k",
            "QUARKUS_HTTP_PORT": "1",
            "QUARKUS_PROFILE": "none",
            "APICURIO_STORAGE_KIND": "kafkasql",
            "LOG4J_CONFIGURATION_FILE": "/nonexistent",
        },
        "Python, node, git": {
            "PYTHONHOME": "/nonexistent",
            "PYTHONPATH": str(OWN),
            "NODE_OPTIONS": "--require=/nonexistent",
            "GIT_DIR": "/nonexistent",
            "PIP_USER": "1",
            "PIP_REQUIRE_VIRTUALENV": "1",
            "PIP_TARGET": "/nonexistent",
        },
        "cargo": {
            "CARGO_TARGET_DIR": str(OWN / "elsewhere"),
            "CARGO_BUILD_TARGET_DIR": str(OWN / "elsewhere"),
            "CARGO_BUILD_TARGET": "wasm32-unknown-unknown",
        },
        "bytes": {"X": b"caf\xe9", b"\xff": b"\xfe"},
        "no home": {"HOME": None},
        "umask": {"umask": 0o077},
        # As `eval "$(infra/local/env)"` of another checkout leaves a shell, and more.
        "another world": {
            "QUADRILLE__KAFKA__BROKERS": NOWHERE,
            "QUADRILLE__REGISTRY__URL": f"http://{NOWHERE}",
            "QUADRILLE__DATABASE__BASE_URL": f"postgres://nobody@{NOWHERE}",
            "QUADRILLE__DATABASE__URL": f"postgres://nobody@{NOWHERE}/none",
            "QUADRILLE__TOOLS__PROVIDER_URL": f"http://{NOWHERE}",
            "QUADRILLE__HTTP__BIND": NOWHERE,
        },
    }


def turkish_locale():
    """A locale in which the capital of i is another letter than I: made here, since few machines have it."""
    made = OWN / "locales/tr_TR.UTF-8"
    made.parent.mkdir(exist_ok=True)
    try:
        subprocess.run(["localedef", "-i", "tr_TR", "-f", "UTF-8", made], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        print("  (this machine cannot make the locale tr_TR: Java alone is Turkish)")
        return {}
    return {"LOCPATH": str(made.parent), "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "LANGUAGE": "tr"}


def run(folder, command, settings, patience=PATIENCE):
    """Exit status and words of a command in a plain shell with these settings. It ends with its children, whatever happens here."""
    environment = {name: os.environ[name] for name in HEARD if name in os.environ} | settings
    umask = environment.pop("umask", 0o022)
    environment = {name: value for name, value in environment.items() if value is not None}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        umask=umask,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        words, _ = process.communicate(timeout=patience)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        words, _ = process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        words += f"\n(not ended after {patience} s)".encode()
    return process.returncode, words.decode(errors="replace")


def copy(folder, programs=()):
    """A checkout of its own: the scripts as they are now, and links to this build's programs."""
    folder = os.fsencode(folder)
    os.makedirs(os.path.join(folder, b"target/debug"))
    for name in ("Makefile", ".ci", "infra", "shared/shop/roster/src"):
        os.makedirs(os.path.dirname(os.path.join(folder, os.fsencode(name))), exist_ok=True)
        whole = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        whole(os.fsencode(ROOT / name), os.path.join(folder, os.fsencode(name)))
    for program in programs:
        os.link(ROOT / "target/debug" / program, os.path.join(folder, b"target/debug", os.fsencode(program)))
    return folder


def alike(words):
    """Words without what differs from run to run, and from checkout to checkout."""
    words = re.sub(r"\d+\.\d+ ?s", "N s", words)
    return re.sub(r"(?m)(QUADRILLE_TEST_KAFKA_CERTIFICATE=).*(/\.run/)", r"\1CHECKOUT\2", words)


class Figures:
    """What was tried, and what fell short."""

    def __init__(self):
        self.tried = 0
        self.faults = 0

    def must(self, holds, what, words=""):
        self.tried += 1
        if not holds:
            self.faults += 1
            print(f"FALLS SHORT: {what}\n{words}".rstrip())


# What a checkout says of which nothing runs.
STILL = (
    ("infra/local/env",),
    ("infra/local/env", "--service", "payment"),
    ("infra/local/env", "--service", "order", "target/debug/quadrille-order", "config"),
    ("infra/local/where",),
    ("infra/local/prerequisites", "servers"),
    ("infra/local/services", "status"),
    ("infra/local/services", "start"),
    ("infra/local/down",),
    ("make", "-s", "help"),
    ("make", "-s", "ci-steps"),
)
# What one says whose servers are up.
UP = (
    ("infra/local/up",),
    ("infra/local/platform",),
    ("infra/local/env", "target/debug/quadrille", "schemas", "list"),
    # Quiet: what cargo says depends on what else is being built.
    ("env", "CARGO_TERM_QUIET=true", "make", "-s", "build"),
)
# Takes longer, and is tried in those that it could hear of.
CHOREOGRAPHY = (("infra/choreography/run",), ("CDPATH", "shell options", "Python, node, git"))
# What a person calls in a shell that was set up for the command line.
BY_HAND = (
    ("target/debug/quadrille", "schemas", "list"),
    ("target/debug/quadrille", "topics", "list"),
    ("target/debug/quadrille-order", "config"),
)
# Fills the data folders of database and broker, as `up` does before it starts them.
MAKE_DATA = """
set -euo pipefail
. infra/local/lib.sh; . "$LOCAL/servers.sh"
find_java; make_postgres_user; find_postgres_user; mkdir -p "$DATA" "$LOGS"; fetch_all
make_postgres_data; make_kafka_data
"""


def in_environments(figures):
    """Every command says in each environment what it says in a plain one."""
    odd = environments()
    copy(OWN / "another checkout")
    (OWN / "another checkout/.run").mkdir()
    (OWN / "another checkout/.run/ports").write_text("QUADRILLE_KAFKA_PORT=1\n")
    still = copy(OWN / "still", ["quadrille-order"])
    tried = [(still, command, odd) for command in STILL] + [(ROOT, command, odd) for command in UP]
    tried.append((ROOT, *CHOREOGRAPHY))
    for folder, command, names in tried:
        plain = run(folder, command, {})
        for name in names:
            status, words = run(folder, command, odd[name])
            told = f"{' '.join(command)} under {name}: status {status}, {plain[0]} in a plain shell"
            figures.must((status, alike(words)) == (plain[0], alike(plain[1])), told, words)
    set_up = shell_for_the_command_line(ROOT, {})
    for command in BY_HAND:
        plain = run(ROOT, command, set_up)
        for name, settings in odd.items():
            # What is started by hand is told its world by the shell: one that is set up for another tells of that one.
            if name == "another world":
                continue
            said = run(ROOT, command, settings | set_up)
            figures.must(said == plain and plain[0] == 0, f"{' '.join(command)} by hand under {name}: status {said[0]}", said[1])
    figures.must(not (OWN / "elsewhere").exists(), "cargo builds into CARGO_TARGET_DIR")
    for name in ("Turkish", "Java", "umask", "PostgreSQL"):
        makes_data(figures, copy(OWN / "data"), name, odd[name])
    return len(odd)


def makes_data(figures, folder, name, settings):
    """Broker and database get their folders, and nothing is left beside them."""
    status, words = run(folder, ["bash", "-p", "-c", MAKE_DATA], settings)
    made = status == 0 and os.path.isfile(os.path.join(folder, b".run/data/kafka/meta.properties"))
    figures.must(made, f"the data folders under {name}: status {status}", words)
    figures.must(run(folder, ["infra/local/clean"], settings)[0] == 0, f"clean under {name}")
    shutil.rmtree(folder)


def told_by(folder, command):
    """Exit status and words, as they are alike in every checkout."""
    status, words = run(folder, command, {})
    return status, alike(words)


def at_paths(figures):
    """Every command says at each path what it says at a plain one, or refuses the path in one sentence."""
    places = OWN / "paths"
    places.mkdir()
    plain = {}
    for name in (*PATHS, ODDEST):
        folder = copy(places / name, ["quadrille-order"])
        if name == ODDEST:
            os.symlink(name, places / "link")
        for command in STILL:
            said = told_by(folder, command)
            figures.must(said == plain.setdefault(command, said), f"{' '.join(command)} at {name!r}: status {said[0]}", said[1])
            if name == ODDEST:
                said = told_by(places / "link", command)
                figures.must(said == plain[command], f"{' '.join(command)} by a symbolic link: status {said[0]}", said[1])
    before = set(os.listdir(places))
    makes_data(figures, folder, ODDEST, {})
    figures.must(set(os.listdir(places)) == before - {ODDEST}, "something was made beside the checkout", str(os.listdir(places)))
    for name, fault in REFUSED.items():
        folder = copy(os.path.join(os.fsencode(places), name))
        for command in (("infra/local/where",), ("infra/local/env",), (".ci/run",)):
            status, words = run(folder, command, {})
            refused = status == 1 and words.startswith(f"The path of this checkout has {fault}")
            figures.must(refused and words.count("\n") == 1, f"{command[0]} at {name!r}: status {status}", words)
    for name in UNBUILT:
        status, words = run(copy(places / "unbuilt" / name), ["infra/local/prerequisites"], {})
        refused = status == 1 and words.startswith("The path of this checkout has a blank or a letter of the shell's")
        figures.must(refused and words.count("\n") == 1, f"a build at {name!r}: status {status}", words)
    for cache, refusal in (("/a:b", "The path of the servers' programs (QUADRILLE_CACHE) has a colon"), ("a", "QUADRILLE_CACHE=a is no absolute path")):
        status, words = run(ROOT, ["infra/local/services", "status"], {"QUADRILLE_CACHE": cache})
        figures.must(status == 1 and words.startswith(refusal), f"QUADRILLE_CACHE={cache}: status {status}", words)


def shell_for_the_command_line(folder, settings):
    """The variables that `eval "$(infra/local/env)"` sets."""
    _, lines = run(folder, ["bash", "-c", 'eval "$(infra/local/env)"; env'], settings)
    return dict(line.split("=", 1) for line in lines.splitlines() if line.startswith("QUADRILLE"))


def set_up_as_documented(figures):
    """A shell that `eval "$(infra/local/env)"` has set up for the command line starts services, too; one for a service runs the command line."""
    folder = copy(OWN / "set up", ["quadrille-order", "quadrille"])
    shell = shell_for_the_command_line(folder, {"QUADRILLE_POSTGRES_PORT": "15433"})
    figures.must("QUADRILLE__DATABASE__BASE_URL" in shell, "infra/local/env prints no base_url")
    status, words = run(folder, ["target/debug/quadrille-order", "config"], shell)
    figures.must(status == 0, f"quadrille-order config in a shell for the command line: status {status}", words)
    _, config = run(ROOT, ["infra/local/env", "--service", "order", "target/debug/quadrille-order", "config"], {})
    values = dict(line.split("  # ")[0].split(" = ", 1) for line in config.splitlines())
    every = {f"QUADRILLE__{key.upper().replace('.', '__')}": value for key, value in values.items()}
    status, words = run(ROOT, ["target/debug/quadrille", "schemas", "list"], every)
    figures.must(status == 0 and len(every) > 20, f"the command line with every key of a service: status {status}", words)


def worlds(figures, names):
    """In each environment, and at the oddest path, a world of its own: `make up services demo`."""
    programs = [path.name for path in (ROOT / "target/debug").glob("quadrille*") if path.is_file() and not path.suffix]
    odd = environments()
    copy(OWN / "another checkout")
    places = {"path": (ODDEST, {})} | {name: ("world", settings) for name, settings in odd.items()}
    unknown = set(names) - set(places)
    if unknown:
        sys.exit(f"There is no {', '.join(unknown)}: one of {', '.join(places)}")
    for name, (place, settings) in places.items():
        if names and name not in names:
            continue
        folder, began = copy(OWN / place, programs), time.monotonic()
        # Programs are not built in a copy: they would be others than this checkout's.
        made = ["make", "-o", "build-up", "-o", "build-services", "-o", "build-demo", "up", "services", "demo"]
        try:
            status, words = run(folder, made, settings | free_ports(), LONG_PATIENCE)
        finally:
            ended, farewell = run(folder, ["make", "clean"], settings, LONG_PATIENCE)
        figures.must(status == 0, f"make up services demo under {name}: status {status}", words)
        figures.must(ended == 0 and not os.path.exists(os.path.join(folder, b".run")), f"make clean under {name}", farewell)
        last = words.strip().rsplit("\n", 1)[-1]
        print(f"{name}: {last} ({time.monotonic() - began:.0f} s)", flush=True)
        shutil.rmtree(folder)
    return len(names or places)


def free_ports():
    """Ports for a world: a block of which none is taken."""
    for first in range(20000, 30000, 50):
        try:
            for port in range(first, first + 20):
                with socket.socket() as taken:
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    taken.bind(("127.0.0.1", port))
        except OSError:
            continue
        return {f"QUADRILLE_{name}_PORT": str(first + at) for at, name in enumerate(PORTS)}
    sys.exit("No twenty free ports in a row between 20000 and 30000")


def main():
    # Told to end, it ends what it has started, as it does otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    long = sys.argv[1:2] == ["--long"]
    # Held until this process ends.
    alone = os.open(pathlib.Path(__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("Another one is at work on this checkout: one after the other, please.")
    # What a run that was killed has left, its processes included.
    for left in OWN.glob("*/infra/local/clean"):
        run(left.parents[2], [left], {})
    shutil.rmtree(os.fsencode(OWN), ignore_errors=True)
    OWN.mkdir(parents=True)
    figures = Figures()
    try:
        if long:
            told = f"{worlds(figures, sys.argv[2:])} worlds"
        else:
            count = in_environments(figures)
            at_paths(figures)
            set_up_as_documented(figures)
            told = f"{count} environments, {len(PATHS) + 1} paths, {len(REFUSED)} paths refused"
    finally:
        shutil.rmtree(os.fsencode(OWN), ignore_errors=True)
    print(f"odd shells: {told}; {figures.tried} checks, {figures.faults} fall short")
    sys.exit(1 if figures.faults else 0)


if __name__ == "__main__":
    main()
