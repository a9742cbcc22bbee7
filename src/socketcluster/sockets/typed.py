"""Streams of a peer's data that is checked by its type, and what becomes of data that is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketcluster.errors import InvalidDataError
from socketcluster.handlers.data_type import DataType
from socketcluster.sockets.request import AGRequest
from socketcluster.streams import NO_VALUE, ConvertedStream, StreamDemux


def typed_requests(
    demux: StreamDemux[Any], name: str, annotation: Any
) -> ConvertedStream[AGRequest[Any]]:
    """The stream of a procedure's calls; a call with other data is answered with the error.

    Raises:
        InvalidArgumentsError: data of the type cannot be checked.
    """
    data_type = DataType.of(annotation)

    def convert(request: AGRequest[Any]) -> Any:
        with request:  # It answers with the error, and goes on.
            request.data = data_type.from_value(request.data)
            return request
        return NO_VALUE

    return ConvertedStream(demux, name, convert)


def typed_values(annotation: Any, what: str, reject: Callable[[Exception], None]) -> Any:
    """A function that converts a value to the type; for another it calls `reject(error)`.

    `what` begins the error's message.

    Raises:
        InvalidArgumentsError: data of the type cannot be checked.
    """
    data_type = DataType.of(annotation)

    def convert(value: Any) -> Any:
        try:
            return data_type.from_value(value)
        except InvalidDataError as error:
            reject(InvalidDataError(f"{what} is not of its type: {error}", error.path))
        except Exception as error:  # Of a validator of the application.
            reject(error)
        return NO_VALUE

    return convert
