"""`python -m proxy`, and the `pointsman` script."""


def main() -> None:
    from proxy.cli.main import app

    app()


if __name__ == "__main__":
    main()
