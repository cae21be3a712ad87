"""One process after a sweep: a measuring command, which ends with the sweep.

python -m hstnn_deploy.cli.measurement robustness …
"""

from hstnn_deploy.cli.app import main as run_command
from hstnn_deploy.processes import GRACE, end_with_starter

if __name__ == "__main__":
    end_with_starter(GRACE)
    run_command()
