"""Chat templates in the styles of well-known models, written small: what differs between them is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast

from tests.lm.tiny import CHATML, tiny_tokenizer

VOCABULARY = 448  # what a model needs for the largest of these


@dataclass(frozen=True)
class Style:
    """A template, its special tokens, and what ends an answer at the end of a conversation."""

    template: str
    special: tuple[str, ...]
    eos: str
    ends: str
    before: str = ""  # what the model writes before an answer
    plain: tuple[str, ...] = ()  # added tokens that text may be read as

    def tokenizer(self) -> PreTrainedTokenizerFast:
        made = tiny_tokenizer(self.template, bos_token="<bos>")
        made.add_special_tokens({"additional_special_tokens": list(self.special)})
        made.add_tokens(list(self.plain))
        made.eos_token = self.eos
        return made


def each(**branches: str) -> str:
    """A loop over messages with a branch for each role."""
    parts = [f"m.role == '{role}' %}}{body}" for role, body in branches.items()]
    return "{% for m in messages %}{% if " + "{% elif ".join(parts) + "{% endif %}{% endfor %}"


def asks(text: str) -> str:
    return "{% if add_generation_prompt %}" + text + "{% endif %}"


ZEPHYR = each(
    system="<|system|>\n{{ m.content }}</s>\n",
    user="<|user|>\n{{ m.content }}</s>\n",
    assistant="<|assistant|>\n{{ m.content }}</s>\n",
) + asks("<|assistant|>\n")

PHI3 = (
    each(
        system="<|system|>\n{{ m.content }}<|end|>\n",
        user="<|user|>\n{{ m.content }}<|end|>\n",
        assistant="<|assistant|>\n{{ m.content }}<|end|>\n",
    )
    + "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)

# the thinking of turns before the last question is forgotten; the last answer gets an empty block
QWEN3 = (
    "{% if tools %}<|im_start|>system\nTools:{% for t in tools %}\n{{ t | tojson }}{% endfor %}<|im_end|>\n"
    "{% endif %}{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% set said = m.content %}{% set thought = '' %}{% if '</think>' in said %}"
    "{% set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set said = said.split('</think>')[-1].lstrip('\n') %}{% endif %}<|im_start|>assistant\n"
    "{% if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{ '<think>\n' + thought + '\n</think>\n\n' + said.lstrip('\n') }}{% else %}{{ said }}{% endif %}"
    "{% for call in m.tool_calls or [] %}\n<tool_call>\n{{ call.function | tojson }}\n</tool_call>"
    "{% endfor %}"
    "<|im_end|>\n{% elif m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n"
    "</tool_response><|im_end|>\n{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}" + asks("<|im_start|>assistant\n")
)

# channels; what ends the last answer ends no earlier one
HARMONY = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>"
    "{{ m.content }}{% if loop.last %}<|return|>{% else %}<|end|>{% endif %}"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    + asks("<|start|>assistant")
)

COHERE = (
    "{{ bos_token }}"
    + each(
        system="<|TURN|><|SYSTEM|>{{ m.content }}<|END_TURN|>",
        user="<|TURN|><|USER|>{{ m.content }}<|END_TURN|>",
        assistant="<|TURN|><|BOT|><|RESPONSE|>{{ m.content }}<|END_RESPONSE|><|END_TURN|>",
    )
    + asks("<|TURN|><|BOT|>")
)

GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    + asks("<start_of_turn>model\n")
)

# the system message stands in the last question; a tool's turn has no branch
MISTRAL = (
    "{{ bos_token }}{% set ns = namespace(last=0, system='') %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
    "{% if m.role == 'system' %}{% set ns.system = m.content + '\n\n' %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ ' ' }}"
    "{% if loop.index0 == ns.last %}{{ ns.system }}{% endif %}{{ m.content }}[/INST]"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)

LLAMA3 = (
    "{{ bos_token }}<|head|>system<|/head|>\n\nToday Date: {{ strftime_now('%d %b %Y') }}\n\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}<|eot|>"
    "{% for m in messages %}{% if m.role != 'system' %}"
    "<|head|>{{ 'ipython' if m.role == 'tool' else m.role }}<|/head|>\n\n"
    "{% if m.role == 'tool' %}{{ m.content | tojson }}{% else %}{{ m.content | trim }}{% endif %}<|eot|>"
    "{% endif %}{% endfor %}" + asks("<|head|>assistant<|/head|>\n\n")
)

FIRST_LLAMA3 = (  # which asks for an answer whether it is to or not
    "{{ bos_token }}{% for m in messages %}{{ '<|head|>' + m.role + '<|/head|>\n\n' + m.content | trim }}"
    "<|eot|>{% endfor %}{{ '<|head|>assistant<|/head|>\n\n' }}"
)
MISTRAL3 = (  # whose system turn stands before a question only until that is answered
    "{{ bos_token }}{% set told = '' %}{% if messages[0].role == 'system' %}"
    "{% set told = messages[0].content %}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ ' ' }}"
    "{% if loop.last and told %}{{ told + '\n\n' }}{% endif %}{{ m.content }}[/INST]"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content | trim + eos_token }}{% endif %}{% endfor %}"
)

GLM4 = (  # no token ends an answer
    "[gMASK]{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    + asks("<|assistant|>\n")
)
R1 = (  # forgets thinking, of the last answer too
    "{{ bos_token }}"
    + each(
        system="{{ m.content }}",
        user="<|User|>{{ m.content }}",
        assistant="<|Assistant|>{{ m.content.split('</think>')[-1].lstrip('\n') }}<|eos|>",
    )
    + asks("<|Assistant|>")
)

STYLES: dict[str, Style] = {
    "glm4": Style(
        GLM4,
        ("[gMASK]", "<|system|>", "<|user|>", "<|assistant|>", "<|endoftext|>"),
        "<|endoftext|>",
        "<|endoftext|>",
    ),
    "r1": Style(R1, ("<|User|>", "<|Assistant|>", "<|eos|>"), "<|eos|>", "<|eos|>"),
    "chatml": Style(CHATML, (), "<|im_end|>", "<|im_end|>"),
    "zephyr": Style(ZEPHYR, ("</s>",), "</s>", "</s>"),
    "phi3": Style(
        PHI3,
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
        "<|endoftext|>",
        "<|end|>",
    ),
    "qwen3": Style(
        QWEN3, (), "<|im_end|>", "<|im_end|>", "<think>\n\n</think>\n\n", ("<think>", "</think>")
    ),
    "harmony": Style(
        HARMONY,
        ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"),
        "<|return|>",
        "<|return|>",
        "<|channel|>final<|message|>",
    ),
    "cohere": Style(
        COHERE,
        (
            "<|TURN|>",
            "<|USER|>",
            "<|SYSTEM|>",
            "<|BOT|>",
            "<|RESPONSE|>",
            "<|END_RESPONSE|>",
            "<|END_TURN|>",
        ),
        "<|END_TURN|>",
        "<|END_RESPONSE|><|END_TURN|>",
        "<|RESPONSE|>",
    ),
    "gemma": Style(GEMMA, ("<start_of_turn>", "<end_of_turn>", "<eos>"), "<eos>", "<end_of_turn>"),
    "mistral": Style(MISTRAL, ("</s>", "[INST]", "[/INST]"), "</s>", "</s>", " "),
    "mistral3": Style(MISTRAL3, ("</s>", "[INST]", "[/INST]"), "</s>", "</s>", " "),
    "first llama3": Style(
        FIRST_LLAMA3,
        ("<|head|>", "<|/head|>", "<|eot|>", "<|end_text|>"),
        "<|end_text|>",
        "<|eot|>",
    ),
    "llama3": Style(
        LLAMA3, ("<|head|>", "<|/head|>", "<|eot|>", "<|end_text|>"), "<|end_text|>", "<|eot|>"
    ),
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
}
