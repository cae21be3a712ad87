"""`python -m hstnn_deploy` is the `hstnn` command."""

from hstnn_deploy.cli.app import main

if __name__ == "__main__":
    main()
