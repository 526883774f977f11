"""What a request becomes for the engine, or why it cannot: its prompts as tokens, within the model's limits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from neuron_runtime.engines.base import Sampling

from .answering import Prepared
from .api_error import (
    ApiError,
    context_length_exceeded,
    invalid,
    model_not_found,
    prompt_too_long,
    unknown_token,
)
from .chat_request import parse_chat_request
from .chat_response import ChatFormat
from .chat_template import ChatTemplateError
from .generation import Generation
from .generation_request import Options
from .json_grammar import JsonGrammar, UnknownTokens
from .model_response import Tokenized
from .response_body import Head
from .state import Served, ServedModel
from .text_input import Prompt
from .text_request import parse_text_request, parse_tokenize_request
from .text_response import TextFormat
from .tokenization import PromptTooLong


def prepare_chat(body: bytes, model: ServedModel) -> Prepared:
    """A request for chat completions. Raises ApiError."""
    chat = parse_chat_request(body)
    _check(chat.options, model)
    prompt = _chat_tokens(chat.messages, model)
    head = _head("chatcmpl", chat.options, model)
    words = ChatFormat(head, model.tokenizer.text_of, chat.options.logprobs is not None)
    return _prepared([("messages", prompt)], chat.options, model, words)


def prepare_text(body: bytes, model: ServedModel) -> Prepared:
    """A request for completions. Raises ApiError."""
    text = parse_text_request(body)
    _check(text.options, model)
    prompts = [("prompt", _text_tokens(prompt, model, special=True)) for prompt in text.prompts]
    head = _head("cmpl", text.options, model)
    words = TextFormat(head, model.tokenizer.text_of, text.options.logprobs is not None)
    return _prepared(prompts, text.options, model, words)


def tokenize(body: bytes, model: Served) -> Tokenized:
    """The answer to a request for tokens. Raises ApiError."""
    request = parse_tokenize_request(body)
    if request.model is not None and request.model != model.name:
        raise model_not_found(request.model, model.name)
    if request.prompt is None:
        tokens = _chat_tokens(request.messages, model)
    else:
        tokens = _text_tokens(request.prompt, model, special=request.special)
    return {"count": len(tokens), "max_model_len": model.max_length, "tokens": list(tokens)}


def _check(options: Options, model: ServedModel) -> None:
    if options.model != model.name:
        raise model_not_found(options.model, model.name)
    if options.sampled_by and model.scheduler.capabilities.sampling is Sampling.ON_DEVICE:
        param = options.sampled_by[0]
        message = f"'{param}' is not supported by this model, whose compiled graphs choose the tokens; leave it out"
        raise ApiError(400, message, param=param, code="unsupported_parameter")


def _chat_tokens(messages: Sequence[Mapping[str, str]], model: Served) -> Sequence[int]:
    try:
        return _encoded("messages", model, lambda most: model.tokenizer.encode_chat(messages, most))
    except ChatTemplateError as error:
        raise invalid("messages", str(error), "invalid_messages") from error


def _text_tokens(prompt: Prompt, model: Served, *, special: bool) -> Sequence[int]:
    if not isinstance(prompt, str):
        return prompt
    return _encoded("prompt", model, lambda most: model.tokenizer.encode_text(prompt, most, special=special))


def _encoded(param: str, model: Served, encode: Callable[[int], list[int]]) -> list[int]:
    try:
        return encode(model.max_length)
    except PromptTooLong as error:
        raise prompt_too_long(param, model.max_length) from error


def _prepared(
    prompts: Sequence[tuple[str, Sequence[int]]],
    options: Options,
    model: ServedModel,
    words: ChatFormat | TextFormat,
) -> Prepared:
    generations = [_generation(param, prompt, options, model) for param, prompt in prompts]
    return Prepared(
        generations=tuple(_variant(one, number) for one in generations for number in range(options.choices)),
        prompt_tokens=sum(len(one.prompt) for one in generations),
        stops=options.stops,
        stream=options.stream,
        format=words,
    )


def _generation(param: str, prompt: Sequence[int], options: Options, model: ServedModel) -> Generation:
    limit, vocabulary = model.max_length, model.scheduler.capabilities.vocabulary
    if not prompt:
        raise invalid(param, f"'{param}' makes an empty prompt", f"invalid_{param}")
    if len(prompt) > model.scheduler.prompt_limit:
        raise prompt_too_long(param, model.scheduler.prompt_limit)
    if len(prompt) + (options.max_tokens or 1) > limit:
        raise context_length_exceeded(param, limit, len(prompt), options.max_tokens or 1)
    # Tokenizers can know tokens that were added after the model was trained, and that it holds no numbers for.
    if max(prompt) >= vocabulary:
        raise unknown_token(param, max(prompt), vocabulary)
    return Generation(
        prompt=tuple(prompt),
        constrain=_json_grammar(model).start if options.as_json else None,
        max_tokens=options.max_tokens or limit - len(prompt),
        sampling=options.sampling,
        end_tokens=model.tokenizer.end_tokens,
        logprobs=options.logprobs,
    )


def _json_grammar(model: ServedModel) -> JsonGrammar:
    try:
        return model.tokenizer.json_grammar()
    except UnknownTokens as error:
        param = "response_format"
        message = f"'{param}' is not supported by this model, whose tokens cannot be told apart ({error}); leave it out"
        raise ApiError(400, message, param=param, code="unsupported_parameter") from error


def _variant(generation: Generation, number: int) -> Generation:
    """Several answers to one prompt: each draws in its own way, and the same one with the same seed."""
    seed = generation.sampling.seed
    if number == 0 or seed is None:
        return generation
    return replace(generation, sampling=replace(generation.sampling, seed=seed + number))


def _head(prefix: str, options: Options, model: ServedModel) -> Head:
    return Head(prefix, model.name, model.fingerprint, options.include_usage)
