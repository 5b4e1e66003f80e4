"""What every map of the config is: its keys known, its type noted."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator


class Section(BaseModel):
    """A map of the config. Unknown keys are refused; what was tried is noted for the suggestion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=(), defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _note_shape(cls, data: Any, info: ValidationInfo) -> Any:
        if info.context is not None and isinstance(data, dict):
            info.context[id(data)] = cls
        return data
