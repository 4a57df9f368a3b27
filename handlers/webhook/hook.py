"""A configured webhook, compiled: templates read, secrets opened, addresses known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from service import config
from service.core.model import Address, Begins, Binding, Cast, Channel
from service.core.prompt import Prompt
from service.errors import BadInput


@dataclass(frozen=True, slots=True)
class Hook:
    """Everything about one webhook that a request needs."""

    name: str
    binding: Binding
    scheme: str
    secrets: tuple[str, ...]
    prompt: Prompt
    session: str | Prompt
    reply: str
    wait: timedelta
    answer_to: tuple[Address, ...]
    cast: Cast | None = None
    """The voices of its sessions, when it has a composition."""
    begins: Begins = Begins()

    @property
    def directs(self) -> bool:
        """Whether posters may say which voice they mean."""
        return self.cast is not None and self.session != "new"

    @property
    def names(self) -> frozenset[str]:
        """What its templates look at."""
        session = self.session.names if isinstance(self.session, Prompt) else frozenset()
        return self.prompt.names | session


def compile_hook(
    name: str,
    settings: config.Webhook,
    binding: Binding,
    answer_to: Sequence[Address],
    cast: Cast | None = None,
    begins: Begins | None = None,
) -> Hook:
    """Make a hook of its settings. Raises BadInput for a template that cannot be read."""
    return Hook(
        name=name,
        binding=binding,
        scheme=settings.auth.scheme,
        secrets=tuple(secret.reveal() for secret in settings.auth.secrets),
        prompt=_template("prompt", settings.prompt),
        session=settings.session
        if settings.session in ("new", "fixed")
        else _template("session", settings.session),
        reply=settings.reply,
        wait=settings.wait,
        answer_to=tuple(answer_to),
        cast=cast,
        begins=begins or Begins(),
    )


def callback_address(kind: str, name: str) -> Address:
    """Where the callback of a webhook or task (`kind`) goes; its secret stays in the settings."""
    return Address(Channel.WEBHOOK, f"{kind}:{name}")


def _template(key: str, source: str) -> Prompt:
    try:
        return Prompt.parse(source)
    except BadInput as error:
        raise BadInput(f"{key}: {error}") from error
