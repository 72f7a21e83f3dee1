"""The log of a run."""

from tinygrad_lm.train.log import Log


def test_log_rewinds_and_forgives_a_cut_line(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    for step in range(1, 6):
        log.write(step=step, loss=1 / step)
        if step % 2 == 0:
            log.write(step=step, validation=2 / step)
    whole = log.path.read_bytes()
    assert Log(log.path).records == log.records
    assert Log(log.path).curve("loss") == ([1, 2, 3, 4, 5], [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    assert Log(log.path).curve("validation") == ([2, 4], [1.0, 0.5])
    for cut in range(1, len(whole)):
        log.path.write_bytes(whole[:-cut])
        records = Log(log.path).records
        assert records == log.records[: len(records)]
        assert len(records) >= whole[:-cut].count(b"\n")
    log.path.write_bytes(whole[:-3])
    log = Log(log.path)
    log.rewind(2)
    log.write(step=3, loss=9.0)
    assert Log(log.path).records == log.records
    assert [record["step"] for record in log.records] == [1, 2, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_the_result_is_of_the_last_evaluation(tmp_path):
    """On the whole validation texts where the run has ended; a run that is extended has none until it ends again."""
    log, found = Log(tmp_path / "log.jsonl"), []
    for step, kind, value in ((1, "validation", 3.0), (1, "whole", 2.5), (2, "validation", 2.0), (2, "whole", 2.25)):
        log.write(step=step, **{kind: value, f"{kind}_sources": {"text": value}})
        found.append(log.result())
    assert found == [(value, {"text": value}) for value in (3.0, 2.5, 2.0, 2.25)]
