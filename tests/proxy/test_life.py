"""Readiness over the life of a process."""

from proxy.life import Life


def test_ready_is_while_workers_serve() -> None:
    life = Life()
    assert life.readiness() == (503, b'{"status":"starting"}')
    life.serves(True)
    assert life.readiness() == (200, b'{"status":"ready"}')
    life.serves(False)
    assert life.readiness() == (503, b'{"status":"starting"}')


def test_draining_is_the_end() -> None:
    """A worker that comes up while the process stops makes it ready for nobody."""
    life = Life()
    life.drains()
    life.serves(True)
    assert life.readiness() == (503, b'{"status":"draining"}')
