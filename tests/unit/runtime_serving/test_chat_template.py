"""Chat templates render as transformers renders them, and cannot reach out of their sandbox."""

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from neuron_runtime.serving.chat_template import ChatTemplate, ChatTemplateError

_MESSAGES = [
    {"role": "system", "content": 'Be <brief> & "exact"'},
    {"role": "user", "content": "Grüße\n"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "And?"},
]
_CHATML = """{% for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}{{ '<|im_start|>system\nDefault<|im_end|>\n' }}{% endif %}
{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\n' }}{% endif %}
"""
_TEMPLATES = {
    "chatml": _CHATML,
    "json": "{{ messages | tojson(indent=2) }}{{ {'b': 1, 'a': 'ü'} | tojson }}",
    "loop controls": "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "special tokens": "{{ bos_token }}{{ messages[0].content | trim }}{{ eos_token }}{% if tools %}T{% endif %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
}


@pytest.mark.parametrize("name", _TEMPLATES)
def test_renders_as_transformers_does(name: str) -> None:
    rendered = render_jinja_template(
        [_MESSAGES], chat_template=_TEMPLATES[name], add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
    )
    assert ChatTemplate(_TEMPLATES[name], {"bos_token": "<s>", "eos_token": "</s>"}).render(_MESSAGES) == rendered[0][0]


def test_a_template_that_refuses_says_why() -> None:
    template = ChatTemplate("{{ raise_exception('Roles must alternate') }}", {})
    with pytest.raises(ChatTemplateError, match="Roles must alternate"):
        template.render(_MESSAGES)


@pytest.mark.parametrize(
    "source", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ cycler.__init__.__globals__ }}"]
)
def test_a_template_cannot_leave_the_sandbox(source: str) -> None:
    with pytest.raises(ChatTemplateError, match="refused the messages"):
        ChatTemplate(source, {}).render(_MESSAGES)


def test_a_template_that_does_not_parse_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(ChatTemplateError, match="does not parse"):
        ChatTemplate("{% for %}", {})


def test_the_date_is_there() -> None:
    assert ChatTemplate("{{ strftime_now('%Y') }}", {}).render(_MESSAGES).startswith("2")
