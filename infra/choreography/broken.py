"""broken.py QUADRILLE: breaks a small choreography in every way that shared/tools/choreography/tests/till/broken.json lists.

`quadrille check` must refuse each, naming what is listed there. Exit status 1 where it does not.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

QUADRILLE = pathlib.Path(sys.argv[1]).resolve()
TILL = pathlib.Path(__file__).resolve().parents[2] / "shared/tools/choreography/tests/till"


def check(root):
    """The command's exit status and words for the choreography in this folder."""
    command = [QUADRILLE, "check", "--choreography", root / "choreography.json", "--schemas", root / "schemas"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def broken(edits):
    """What the command says once these edits are made in a copy."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder) / "till"
        shutil.copytree(TILL, root)
        for file, old, new in edits:
            path = root / file
            path.write_text(path.read_text().replace(old, new))
        return check(root)


status, words = check(TILL)
if status != 0:
    sys.exit(f"The small choreography is not sound before it is broken:\n{words}")
examples = json.loads((TILL / "broken.json").read_text())
for example in examples:
    status, words = broken(example["edits"])
    if status != 1 or example["says"] not in words:
        sys.exit(f"Not refused (exit status {status}), though this was expected:\n{example['says']}\nIt says:\n{words}")
    print(f"refused: {words.splitlines()[0]}")
kinds = {example["kind"] for example in examples}
print(f"broken: {len(examples)} examples of {len(kinds)} kinds, each refused")
