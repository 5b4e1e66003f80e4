"""Readiness: yes only while requests are served, and never again once draining was announced."""

from proxy.life import Life


def test_a_life_from_start_to_end() -> None:
    life = Life()
    seen = [life.readiness()]
    for now in (True, False, True):
        life.serves(now)
        seen.append(life.readiness())
    life.drains()
    seen.append(life.readiness())
    life.serves(True)
    seen.append(life.readiness())
    starting, ready, draining = (
        (503, b'{"status":"starting"}'),
        (200, b'{"status":"ready"}'),
        (503, b'{"status":"draining"}'),
    )
    assert seen == [starting, ready, starting, ready, draining, draining]
