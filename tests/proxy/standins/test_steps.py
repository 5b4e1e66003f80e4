from proxy.standins.steps import Cut, Head, Raw, Send, Step, Think, framed


def wire(*steps: Step, close: bool = False) -> bytes:
    return b"".join(step.data for step in framed(iter(steps), close) if isinstance(step, Send | Raw))


def test_a_body_of_known_length() -> None:
    assert wire(Head(200, (("a", "b"),), 2), Send(b"{}")) == b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 2\r\n\r\n{}"


def test_a_chunked_body_ends_when_the_steps_do() -> None:
    head, _, body = wire(Head(200, ()), Send(b"data: x\n\n"), close=True).partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close"
    assert body == b"9\r\ndata: x\n\n\r\n0\r\n\r\n"


def test_a_promise_that_is_not_kept_ends_the_connection() -> None:
    *_, last = framed(iter([Head(200, (), 10), Send(b"half")]), False)
    assert last == Cut("fin")


def test_no_head_means_no_end_of_a_body() -> None:
    assert list(framed(iter([Think(1, 2)]), False)) == [Think(1, 2)]


def test_a_status_that_http_does_not_know() -> None:
    assert wire(Head(529, (), 0)).startswith(b"HTTP/1.1 529 Overloaded\r\n")
