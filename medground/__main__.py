"""``python -m medground`` is the ``medground`` command."""

from medground.cli import main

if __name__ == "__main__":
    main()
