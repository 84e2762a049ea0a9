"""The arena: a blind chat with two policies, a vote after any turn. Votes are judgments.

Both policies answer the same conversation, so that a vote compares two answers to one prompt. It goes on from
the answer that won, as in Bai et al. 2022 (arXiv 2204.05862, section 2.2); after a tie, or without a vote,
from one drawn at random. Who is A and who is B is drawn anew at every turn, and recorded.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from accord.core.errors import AccordError, DataError
from accord.core.hashing import canonical_json
from accord.core.types import Judgment, Message, Preference, Prompt, Question
from accord.core.types import Response as Answer
from accord.feedback.study.definition import Compare
from accord.web import tables
from accord.web.guard.security import CheckedForm, Form, Here, may, wanted
from accord.web.pages.answers import answer_of, choices, text_in
from accord.web.pages.quiz import qualified
from accord.web.pages.render import page
from accord.web.site import new_id, rater_of
from accord.web.work.judgments import keep

__all__ = ["router"]

router = APIRouter(include_in_schema=False, prefix="/studies/{study}/arena")
T = tables.talks
VOTE = Compare(kind="compare")
LONGEST = 8000  # characters of a message
GONE_ON = (
    "This chat went on, or ended, on another page of yours. Your message was not sent; it is below."
)
NO_VOTE = (
    "This chat went on, or ended, on another page of yours. Your vote was not counted: look again."
)


def past_the_quiz(here: Annotated[Here, Depends(may("annotate"))]) -> Here:
    """An annotator who passed the quiz, where there is one; others are sent to it."""
    if here.study.quiz and not qualified(here):
        to = {"location": f"/studies/{here.study.name}/quiz"}
        raise HTTPException(303, "The quiz comes first.", to)
    return here


Chatter = Annotated[Here, Depends(past_the_quiz)]


@router.get("")
def talk(request: Request, here: Chatter) -> Response:
    """The chat under way, or an empty one."""
    return _page(request, here, _current(here))


def _page(
    request: Request,
    here: Here,
    row: Any,
    notice: str = "",
    status: int = 200,
    form: Form | None = None,
) -> Response:
    """With what was written (`form`) and not taken."""
    if here.study.arena is None:
        raise HTTPException(404, "This study has no arena.")
    turns = [] if row is None else json.loads(row.turns)
    return page(
        request, "arena.html", here.who, here=here, talk=row.id if row else "", turns=turns,
        options=choices(VOTE), full=len(turns) >= here.study.arena.most_turns, notice=notice,
        status=status, written=form or {}, turn=_turn(row),
    )  # fmt: skip


def _turn(row: Any) -> str:
    """Names the chat and how far it is: what a form was made from."""
    return "" if row is None else f"{row.id}.{len(json.loads(row.turns))}"


def _gone_on(form: Form, row: Any) -> bool:
    """Whether the chat is further now than on the page the form was sent from."""
    return bool(form.get("turn", _turn(row)) != _turn(row))


def _current(here: Here) -> Any:
    mine = (T.c.study == here.study.name, T.c.account == here.who.id, T.c.ended_at.is_(None))
    return here.site.one(sa.select(T).where(*mine).order_by(T.c.at.desc()).limit(1))


@router.post("")
def say(request: Request, here: Chatter, form: CheckedForm) -> Response:
    """A message to both policies."""
    arena = here.study.arena
    if arena is None:
        raise HTTPException(404, "This study has no arena.")
    row = _current(here)
    turns = [] if row is None else json.loads(row.turns)
    if _gone_on(form, row):
        return _page(request, here, row, GONE_ON, 409, form)
    try:
        text = wanted(form, "text", LONGEST)
        if len(turns) >= arena.most_turns:
            raise DataError("this chat is full", where="turns", mend="start a new one")
        turn = _answered(here, row, turns, text)
    except AccordError as error:
        return _page(request, here, row, str(error), 422, form)
    with here.site.db.writing() as connection:
        now = _current(here)
        if (now and now.turns) != (row and row.turns):  # sent twice: the first one counts
            last = json.loads(now.turns)[-1]["user"] if now and now.turns != "[]" else None
            if last != text:
                return _page(request, here, now, GONE_ON, 409, form)
            return RedirectResponse(f"/studies/{here.study.name}/arena", status_code=303)
        if now is None:
            chat = {
                "id": new_id(), "study": here.study.name, "account": here.who.id, "turns": "[]",
                "policies": canonical_json(turn["policies"]), "at": here.site.now(),
                "ended_at": None,
            }  # fmt: skip
            connection.execute(sa.insert(T), [chat])
            now = _current(here)
        kept = canonical_json([*turns, turn])
        connection.execute(sa.update(T).where(T.c.id == now.id).values(turns=kept))
    return RedirectResponse(f"/studies/{here.study.name}/arena#end", status_code=303)


def _answered(here: Here, row: Any, turns: list[Any], text: str) -> dict[str, Any]:
    """A turn with both answers; the policies are drawn once a chat, their sides every turn."""
    arena, draw = here.study.arena, random.SystemRandom()
    assert arena is not None
    pair = json.loads(row.policies) if row else draw.sample(arena.policies, 2)
    missing = [name for name in pair if name not in here.site.policies]
    if missing:
        raise DataError(
            "a policy is not being served", where="arena", mend="start it with --policy"
        )
    draw.shuffle(pair)
    prompt = Prompt(messages=(*_messages(arena.system, turns), Message(role="user", content=text)))
    answers = [here.site.policies[name]([prompt])[0] for name in pair]
    return {
        "user": text, "policies": pair, "answers": [a.model_dump(mode="json") for a in answers],
        "on": draw.randrange(2), "vote": None,
    }  # fmt: skip


def _messages(system: str | None, turns: list[Any]) -> tuple[Message, ...]:
    """The conversation so far: of every turn the answer it goes on from."""
    messages = [Message(role="system", content=system)] if system else []
    for turn in turns:
        messages.append(Message(role="user", content=turn["user"]))
        messages.append(Message(role="assistant", content=turn["answers"][turn["on"]]["text"]))
    return tuple(messages)


@router.post("/vote")
def vote(request: Request, here: Chatter, form: CheckedForm) -> Response:
    """Keep a vote on the last turn; another one corrects it."""
    row = _current(here)
    turns = [] if row is None else json.loads(row.turns)
    if not turns or here.study.arena is None:
        raise HTTPException(404, "There is nothing to vote on.")
    if _gone_on(form, row):
        return _page(request, here, row, NO_VOTE, 409)
    try:
        answer = answer_of(VOTE, form, ["", ""])
    except DataError as error:
        return _page(request, here, row, str(error), 422, form)
    assert isinstance(answer, Preference)
    site, last = here.site, turns[-1]
    before = _messages(here.study.arena.system, turns[:-1])
    prompt = Prompt(
        messages=(*before, Message(role="user", content=last["user"])),
        tags={"arena": here.study.name},
    )
    responses = [Answer.model_validate(a) for a in last["answers"]]
    ids = tuple(r.id_for(prompt) for r in responses)
    if ids[0] == ids[1]:
        return _page(request, here, row, "Both answers are the same; go on.", 422)
    newest = site.guideline(here.study.name)
    question = Question(
        prompt=prompt.id,
        responses=ids,
        kind="compare",
        guideline=f"v{newest.number if newest else 1}",
    )
    rater = rater_of(here.who.name)
    with site.db.writing() as connection:
        if (now := _current(here)) is None or now.turns != row.turns:
            return _page(request, here, now, NO_VOTE, 409)
        judgment = Judgment(
            question=question.id, rater=rater.id, answer=answer, supersedes=last["vote"],
            at=datetime.fromtimestamp(site.now(), UTC).isoformat(),
            rationale=text_in(form, "rationale") or None,
        )  # fmt: skip
        site.store.add_prompts([prompt])
        site.store.add_responses(prompt, responses)
        keep(site, here.study.name, question, rater, judgment, None)
        turns[-1] = {**last, "vote": judgment.id, "choice": form["choice"],
                     "on": last["on"] if answer.better is None else answer.better}  # fmt: skip
        connection.execute(sa.update(T).where(T.c.id == row.id).values(turns=canonical_json(turns)))
    return RedirectResponse(f"/studies/{here.study.name}/arena#end", status_code=303)


@router.post("/new")
def start_again(here: Chatter, form: CheckedForm) -> Response:
    """End this chat; the next message starts another, with policies drawn anew."""
    row = _current(here)
    if row is not None:
        here.site.run(sa.update(T).where(T.c.id == row.id).values(ended_at=here.site.now()))
    return RedirectResponse(f"/studies/{here.study.name}/arena", status_code=303)
