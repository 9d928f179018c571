import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_benchmark_can_be_imported_where_there_is_no_module_resource():
    """Windows has none. (With these arguments the benchmark does without PyTorch.)"""
    program = "import sys; sys.modules['resource'] = None; import benchmarks.bench"
    command = [sys.executable, "-c", program, "memory", "nnlib"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
