"""Logs as JSON: one line for each record, with the id of the request that it belongs to."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from zit_ext.cli.console import Console
from zit_ext.cli.logs import logging_to, use_format
from zit_ext.records import Request
from zit_ext.request_ids import request_id
from zit_ext.structured_logs import fields
from zit_ext.testing_engine import TrialEngine
from zit_ext.workers import Worker

log = logging.getLogger("zit_ext.test")


@pytest.fixture
def logged(capsys):
    def lines():
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    with logging_to(Console(), verbose=1):
        use_format("json")
        yield lines


def test_a_record_is_one_line_of_json_however_it_reads(logged):
    log.info("a\nb \x1b[2J %s", "ü")
    (line,) = logged()
    assert (line["level"], line["logger"], line["message"]) == ("info", "zit_ext.test", "a\nb \x1b[2J ü")
    assert line["time"].endswith("Z")
    assert "request_id" not in line


def test_fields_stand_beside_the_message_and_hide_nothing(logged):
    log.info("answered", extra=fields(status=200, message="not mine"))
    (line,) = logged()
    assert (line["status"], line["message"]) == (200, "answered")


def test_a_traceback_is_in_the_line(logged):
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("it failed")
    (line,) = logged()
    assert "ValueError: broken" in line["exception"]


def test_what_the_engine_logs_bears_the_id_of_the_request(logged, tmp_path):
    async def ask(trial, id, seed):
        request_id.set(id)
        return await trial.runtime.generate(Request(prompt="a fox", seed=seed))

    async def both(trial):
        await asyncio.gather(ask(trial, "id-1", 1), ask(trial, "id-2", 2))

    with TrialEngine(tmp_path, installed=False) as trial:
        asyncio.run(both(trial))
        latest = trial.runtime.observer.answers.latest()

    answered = [line for line in logged() if line.get("outcome") == "miss"]
    assert sorted(line["request_id"] for line in answered) == ["id-1", "id-2"]
    assert {one.seed: one.request_id for one in latest} == {1: "id-1", 2: "id-2"}
    assert all(line["key"] for line in answered)


def test_what_other_threads_log_bears_the_id_of_the_request_too(logged, tmp_path):
    async def ask(trial, id):
        request_id.set(id)
        await trial.runtime.generate(Request(prompt="a fox", seed=1))
        trial.runtime.store.flush()

    with TrialEngine(tmp_path, installed=False, memory_bytes=0) as trial:
        asyncio.run(ask(trial, "id-1"))
        (entry,) = trial.runtime.store.entries()
        trial.runtime.store.blob_file(entry.blob.digest).write_bytes(b"damaged")
        asyncio.run(ask(trial, "id-2"))  # seen by a thread that looks up, set aside by the one that writes

    (line,) = [line for line in logged() if entry.blob.digest[:12] in line["message"]]
    assert line["request_id"] == "id-2"


def test_a_worker_does_its_jobs_under_the_id_of_who_asked_and_forgets_it(logged):
    def asking(id):
        async def ask():
            request_id.set(id)
            return await worker.run(request_id.get)

        return asyncio.run(ask())

    worker = Worker("a thread")
    assert [asking("id-1"), asking(None), asking("id-2")] == ["id-1", None, "id-2"]
    worker.close()


def test_text_stays_text(capsys):
    with logging_to(Console(), verbose=1):
        use_format("text")
        log.info("a line", extra=fields(status=200))
    assert capsys.readouterr().err == "zit-ext: info: a line\n"
