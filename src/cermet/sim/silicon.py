"""What nobody has shown of the hardware, and how a simulated NPU can be told to answer: CERMET_SIM_SILICON.

Names of questions and answers are those of cermet.probe. The first answer is what the simulator takes for granted.
"""
from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from cermet.errors import CermetError

VARIABLE = "CERMET_SIM_SILICON"
TASK_NUMBER = "Q-X12"
IGNORED, RUNS, EARLY, MASKED = "ignored", "runs", "early", "masked"
QUESTIONS: Mapping[str, Mapping[str, str]] = {
    TASK_NUMBER: {
        IGNORED: "a program cannot raise the task number of its own run",
        RUNS: "it can, and only the last program of the chain interrupts",
        EARLY: "it can, but each program interrupts: the run is over at the first one, while the next one runs",
        MASKED: "the same, but a program can also say which of them interrupt",
    },
}


@dataclass(frozen=True)
class Silicon:
    """An NPU. answers: to those questions that it does not answer as taken for granted."""

    answers: Mapping[str, str] = field(default_factory=dict)

    def answer(self, question: str) -> str:
        return self.answers.get(question) or next(iter(QUESTIONS[question]))


def all_answers(question: str) -> list[Silicon]:
    """An NPU for each answer to a question, or one as it is taken to be."""
    return [Silicon({question: answer}) for answer in QUESTIONS.get(question, ())] or [Silicon()]


def parse_silicon(text: str, place: str = VARIABLE) -> Silicon:
    """QUESTION=ANSWER with commas between. Raises CermetError, one line, for what is neither."""
    answers: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        question, _, answer = part.partition("=")
        if question not in QUESTIONS:
            raise CermetError(f"{place}: {question[:40]!r} must be one of {', '.join(QUESTIONS)}")
        if answer not in QUESTIONS[question]:
            raise CermetError(f"{place}: {question}={answer[:40]!r} must be one of {', '.join(QUESTIONS[question])}")
        if answers.setdefault(question, answer) != answer:
            raise CermetError(f"{place}: {question} is given as {answers[question]} and as {answer}")
    return Silicon(answers)


def silicon_of_environment() -> Silicon:
    return parse_silicon(os.environ.get(VARIABLE, ""))
