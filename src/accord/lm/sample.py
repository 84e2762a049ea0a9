"""Sampling from a local model: a decode loop in which nobody waits for anybody.

Prompts are sorted by length and left-padded in batches. What they begin with in common is read once
for all, a prompt is read once for its n samples, and a row that has ended leaves the batch, cache
and all, so that short answers do not pay for long ones.

Every sample has a random stream of its own, derived from (seed, prompt id, sample index): which
other prompts share its batch does not change it (beyond the last bits of floating point, which on CUDA
differ between two runs as well: its cumulated sums add up in no fixed order). The same
prompt twice in one call therefore gives the same samples: ask for `n`.

Legend: B rows, T tokens, V vocabulary. Order of operations as everywhere: temperature, top-k over
what is left, then top-p; all in fp32.
"""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, takewhile
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from accord.core.errors import DataError, ModelError
from accord.core.seeds import rng
from accord.core.types import Prompt, Response
from accord.lm.chat import answer_text, render_prompt
from accord.lm.kernels.laid_out import laid_out, lays_out
from accord.lm.kernels.linear import widen
from accord.lm.model.check import check_token, embedded, room
from accord.lm.model.load import LanguageModel
from accord.lm.sampler import Sampling
from accord.lm.template import read_by
from accord.lm.trees.engine import evaluating, windows_by_column
from accord.lm.trees.forward import causal_lm

__all__ = ["LocalSampler", "Tokens"]

PART = 4  # batches
WORTH_PACKING = 16  # steps from which laying the weights out pays
AT_ONCE = 2**20  # logits that tokens are drawn from: 8 MB in double precision
FIRST_NUCLEUS = 256  # candidates tried first for top-p: a full sort of 150k tokens is slow


@dataclass(eq=False)
class Tokens:
    """One sample as tokens. `ids` include the stop token that ended it."""

    prompt: tuple[int, ...]
    stream: random.Random | None  # None: greedy
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    """log π of each id at the sampling temperature, before top-k and top-p; 0 when greedy."""
    finish: Literal["stop", "string", "length"] = "length"


class LocalSampler:
    """A Sampler on a model in this process."""

    def __init__(self, lm: LanguageModel, *, batch_size: int = 32, source: str | None = None):
        self.lm, self.batch_size = lm, batch_size
        self.source = source or f"model:{lm.name}"
        widen(
            lm.model.get_output_embeddings()
        )  # so that it draws from the probabilities that training works with

    def __call__(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Response]]:
        samples = self.tokens(prompts, sampling, on_progress)
        return [
            [self.response(row, sampling, index) for index, row in enumerate(rows)]
            for rows in samples
        ]

    def tokens(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Tokens]]:
        """The same samples as tokens: text that is tokenised again may be other tokens."""
        rows = [
            [
                Tokens(
                    render_prompt(self.lm.tokenizer, prompt),
                    rng(sampling.seed, prompt.id, index) if sampling.temperature > 0 else None,
                )
                for index in range(sampling.n)
            ]
            for prompt in prompts
        ]
        _check_room(self.lm, [row for group in rows for row in group], sampling)
        done, total = 0, len(prompts) * sampling.n

        def finished(count: int) -> None:
            nonlocal done
            done += count
            if on_progress:
                on_progress(done, total)

        batches = list(_batches(rows, self.batch_size))
        many = len(batches) * sampling.max_new_tokens >= WORTH_PACKING
        with evaluating(self.lm.model), torch.inference_mode():
            # by the batch's own rows, whatever else is asked in the same call
            for gains, some in groupby(batches, lambda batch: lays_out(sum(map(len, batch)))):
                with laid_out(self.lm.model) if many and gains else contextlib.nullcontext():
                    for batch in some:
                        _decode(self.lm, batch, sampling, finished)
        return rows

    def parts(self, prompts: Sequence[Prompt], n: int) -> list[list[Prompt]]:
        """The prompts in parts that give, one call a part, what one call for all gives: whole batches in
        their order. Whoever keeps answers part by part loses one at most."""
        order = sorted(
            prompts, key=lambda p: len(render_prompt(self.lm.tokenizer, p)), reverse=True
        )
        size = PART * max(1, self.batch_size // n)
        return [order[at : at + size] for at in range(0, len(order), size)]

    def response(self, row: Tokens, sampling: Sampling, index: int) -> Response:
        """The sample as text."""
        stops = set(self.lm.eos_ids)
        ids = row.ids[:-1] if row.ids and row.ids[-1] in stops else row.ids
        text, _ = answer_text(self.lm.tokenizer, ids, sampling.stop)
        settings = {**sampling.model_dump(exclude={"n"}), "sample": index}
        settings["tokenizer"] = read_by(self.lm.tokenizer)
        return Response(
            text=text, source=self.source, sampling=settings, finish=row.finish,
            tokens=tuple(row.ids),
        )  # fmt: skip


def _check_room(lm: LanguageModel, rows: list[Tokens], sampling: Sampling) -> None:
    positions, limit = room(lm.model.config)
    longest = max((len(row.prompt) for row in rows), default=0)
    if positions is not None and longest + sampling.max_new_tokens > positions:
        raise DataError(
            f"a prompt of {longest} tokens and max_new_tokens={sampling.max_new_tokens} do not fit "
            f"the model's {limit}",
            where=lm.name,
            mend="shorten the prompt or lower max_new_tokens",
        )
    check_token(max((max(row.prompt) for row in rows), default=0), embedded(lm.model), lm.name)


def _batches(rows: list[list[Tokens]], size: int) -> Iterator[list[list[Tokens]]]:
    """Groups of samples of one prompt, longest prompts first, at most `size` samples together."""
    groups = [group[i : i + size] for group in rows for i in range(0, len(group), size)]
    groups.sort(key=lambda group: len(group[0].prompt), reverse=True)
    batch: list[list[Tokens]] = []
    for group in groups:
        if batch and sum(map(len, batch)) + len(group) > size:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _decode(
    lm: LanguageModel,
    groups: list[list[Tokens]],
    sampling: Sampling,
    finished: Callable[[int], None],
) -> None:
    """Extend every sample of the groups until it stops or is `max_new_tokens` long."""
    stops = set(lm.eos_ids)
    step = _Step(lm)
    logits_BV = step.first([group[0].prompt for group in groups], [len(g) for g in groups])
    rows = [row for group in groups for row in group]
    for length in range(1, sampling.max_new_tokens + 1):
        chosen, logps = _choose(logits_BV, sampling, [row.stream for row in rows])
        going = []
        for at, (row, token, logp) in enumerate(zip(rows, chosen, logps, strict=True)):
            row.ids.append(token)
            row.logps.append(logp)
            if token in stops:
                row.finish = "stop"
            elif sampling.stop and _stopped(lm, row.ids, sampling.stop):
                row.finish = "string"
            elif length < sampling.max_new_tokens:
                going.append(at)
        if len(going) < len(rows):
            finished(len(rows) - len(going))
            if not going:
                return
            step.keep(going)
            rows = [rows[at] for at in going]
        logits_BV = step.next([row.ids[-1] for row in rows])


class _Step:
    """The model, its cache and the masks of one batch; rows can leave."""

    def __init__(self, lm: LanguageModel) -> None:
        self.model, self.device, self.pad_id = lm.model, lm.device, lm.pad_id
        self.cache = DynamicCache(config=lm.model.config)
        base = causal_lm(lm.model)
        self.accepts = set(inspect.signature(base.forward).parameters)
        if "past_key_values" not in self.accepts:
            raise ModelError(
                f"{type(base).__name__} keeps no key-value cache, which accord samples with",
                where=lm.name,
                mend="sample from it through a server, or use another model",
            )

    def first(self, prompts: Sequence[tuple[int, ...]], copies: list[int]) -> Tensor:
        """Read the prompts once, then give each as many rows as it has samples: logits [B, V].

        What all prompts begin with (a system message) is read once for all of them; then come the
        pads, then the rest of each prompt.
        """
        shared = self._shared(prompts)
        if shared:
            ids_1T = torch.tensor([prompts[0][:shared]], device=self.device)
            self.mask_BT = torch.ones_like(ids_1T)
            self._forward(ids_1T)
            self.keep([0] * len(prompts))
        longest = max(map(len, prompts))
        pads = [longest - len(p) for p in prompts]
        padded = [[self.pad_id] * n + list(p[shared:]) for n, p in zip(pads, prompts, strict=True)]
        # made from lengths, for pad may equal a stop token
        columns_T = torch.arange(longest, device=self.device)
        pads_B1 = torch.tensor(pads, device=self.device)[:, None]
        self.mask_BT = ((columns_T < shared) | (columns_T >= shared + pads_B1)).long()
        logits_BV = self._forward(torch.tensor(padded, device=self.device))
        rows = [at for at, n in enumerate(copies) for _ in range(n)]
        if len(rows) > len(copies):
            logits_BV = logits_BV[rows]
            self.keep(rows)
        return logits_BV

    def _shared(self, prompts: Sequence[tuple[int, ...]]) -> int:
        """How many first tokens to read once. None where the distance between tokens is counted in
        columns (sliding windows, ALiBi) or state runs through them: pads would lie in between."""
        plain = all(type(layer) is DynamicLayer for layer in self.cache.layers)
        by_column = windows_by_column(self.model.config.get_text_config())
        if len(prompts) < 2 or not plain or by_column or "position_ids" not in self.accepts:
            return 0
        first, last = min(prompts), max(prompts)  # what these two share, all share
        same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
        return min(sum(1 for _ in same), min(map(len, prompts)) - 1)

    def next(self, tokens: list[int]) -> Tensor:
        """Append one token to each row: logits [B, V]."""
        self.mask_BT = torch.cat([self.mask_BT, self.mask_BT.new_ones(len(tokens), 1)], dim=1)
        return self._forward(torch.tensor(tokens, device=self.device)[:, None])

    def keep(self, rows: list[int]) -> None:
        """Select rows (or repeat them) in cache and mask."""
        index_B = torch.tensor(rows, device=self.device)
        # an index_select that every kind of layer has
        self.cache.reorder_cache(index_B)  # type: ignore[arg-type]  # its stub wants a LongTensor
        self.mask_BT = self.mask_BT[index_B]

    def _forward(self, ids_BT: Tensor) -> Tensor:
        """Logits [B, V] after the last of `ids_BT`, the last columns of the mask."""
        positions_BT = (self.mask_BT.cumsum(-1) - 1).clamp(min=0)[:, -ids_BT.shape[1] :]
        wanted: dict[str, Any] = {"position_ids": positions_BT, "logits_to_keep": 1}
        output = self.model(
            input_ids=ids_BT,
            attention_mask=self.mask_BT,
            past_key_values=self.cache,
            use_cache=True,
            **{key: value for key, value in wanted.items() if key in self.accepts},
        )
        logits_BV: Tensor = output.logits[:, -1]
        return logits_BV


def _stopped(lm: LanguageModel, ids: list[int], stop: Sequence[str]) -> bool:
    """Whether the answer contains a stop string; the end of it is looked at first, for speed."""
    longest = max(len(s.encode()) for s in stop) + 8  # a token is a byte at least
    tail = str(lm.tokenizer.decode(ids[-longest:], clean_up_tokenization_spaces=False))
    return any(s in tail for s in stop) and answer_text(lm.tokenizer, ids, stop)[1]


def _choose(
    logits_BV: Tensor, sampling: Sampling, streams: Sequence[random.Random | None]
) -> tuple[list[int], list[float]]:
    """One token per row and its log-prob. On a CPU some rows at a time: blocks over 32 MB come from the
    system anew at every step, and touching them took four times as long as the arithmetic."""
    rows, vocabulary = logits_BV.shape
    some = max(1, AT_ONCE // vocabulary) if logits_BV.device.type == "cpu" else rows
    tokens: list[int] = []
    logps: list[float] = []
    for at, part_BV in zip(range(0, rows, some), logits_BV.split(some), strict=True):
        chosen, chosen_logps = _draw(part_BV, sampling, streams[at : at + some])
        tokens += chosen
        logps += chosen_logps
    return tokens, logps


def _draw(
    logits_BV: Tensor, sampling: Sampling, streams: Sequence[random.Random | None]
) -> tuple[list[int], list[float]]:
    """The likeliest token, or by inverse CDF at the row's next random number."""
    top_B1, likeliest_B1 = logits_BV.max(-1, keepdim=True)
    if not bool(top_B1.isfinite().all()):
        raise ModelError(
            "the model's logits are not finite", where="sampling", mend="check the weights or dtype"
        )
    if sampling.temperature == 0:
        return likeliest_B1[:, 0].tolist(), [0.0] * len(streams)
    # subtracting the maximum first keeps a tiny temperature finite
    logits_BV = (logits_BV.float() - top_B1.float()) / sampling.temperature
    all_BV = logits_BV
    ids_BK: Tensor | None = None
    if 0 < sampling.top_k < logits_BV.shape[-1]:
        logits_BV, ids_BK = logits_BV.topk(sampling.top_k)
    probs_BK = logits_BV.softmax(-1)
    if sampling.top_p < 1.0:
        probs_BK, order_BK = _nucleus(probs_BK, sampling.top_p)
        ids_BK = order_BK if ids_BK is None else ids_BK.gather(-1, order_BK)
    uniform_B = [stream.random() for stream in streams if stream is not None]
    drawn_B1 = _inverse_cdf(probs_BK, uniform_B)
    tokens_B1 = drawn_B1 if ids_BK is None else ids_BK.gather(-1, drawn_B1)
    logps_B1 = all_BV.gather(-1, tokens_B1) - all_BV.logsumexp(-1, keepdim=True)
    return tokens_B1[:, 0].tolist(), logps_B1[:, 0].tolist()


def _nucleus(probs_BV: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """(probabilities, token ids) of the smallest set with mass `top_p`, likeliest first.

    A token is kept when the mass before it is below `top_p`; the others get probability 0.
    """
    size = min(FIRST_NUCLEUS, probs_BV.shape[-1])
    while True:
        probs_BK, ids_BK = probs_BV.topk(size)
        through_BK = probs_BK.cumsum(-1)
        if size == probs_BV.shape[-1] or bool((through_BK[:, -1] >= top_p).all()):
            return probs_BK.masked_fill(through_BK - probs_BK >= top_p, 0.0), ids_BK
        size = min(size * 8, probs_BV.shape[-1])


def _inverse_cdf(probs_BK: Tensor, uniform_B: list[float]) -> Tensor:
    """Index [B, 1] of the token in whose stretch of the cumulated mass the uniform number falls."""
    cdf_BK = probs_BK.double().cumsum(-1)
    at_B1 = torch.tensor(uniform_B, dtype=torch.float64, device=cdf_BK.device)[:, None]
    total_B1 = cdf_BK[:, -1:].contiguous()
    drawn_B1 = torch.searchsorted(cdf_BK, at_B1 * total_B1, right=True)
    # rounding may step past the last token with any probability: stay on it
    last_B1 = torch.searchsorted(cdf_BK, total_B1)
    return torch.minimum(drawn_B1, last_B1)
