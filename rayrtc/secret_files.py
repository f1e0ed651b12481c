"""Secrets from files: `RAYRTC_TURN_SECRET_FILE` names the one that holds `RAYRTC_TURN_SECRET`.

The convention of many images, for secrets that are mounted: of Docker, Kubernetes or systemd.
"""

import os
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource, SettingsError

FROM_FILES = ("cluster_secret", "redis_url", "turn_secret", "twilio_auth_token")
"""Options that may be read from a file: secrets, and the URL that may hold a password."""


class SecretFiles(PydanticBaseSettingsSource):
    """Values of the files that the environment names, without the line end behind them.

    A variable that holds the value itself is preferred, and its file is not read.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """As `PydanticBaseSettingsSource`: value, its key, whether it is to be parsed.

        Raises:
            SettingsError: the file cannot be read.
        """
        variable = f"{self.config.get('env_prefix', '')}{field_name}".upper()
        path = os.environ.get(f"{variable}_FILE")
        if field_name not in FROM_FILES or not path or variable in os.environ:
            return None, field_name, False
        try:
            return Path(path).read_text().rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise SettingsError(f"{variable}_FILE: {path} cannot be read: {reason}") from error

    def __call__(self) -> dict[str, Any]:
        """The options that have a file, by name."""
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}
