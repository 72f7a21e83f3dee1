"""What a client is answered when it does not get what it asked for."""

from http import HTTPStatus


class Refusal(Exception):
    """An error in OpenAI's form. param: the field that is to blame; code: a name that programs can look for."""

    def __init__(self, status, message, param=None, code=None, headers=()):
        super().__init__(message)
        self.status, self.param, self.code, self.headers = HTTPStatus(status), param, code, dict(headers)

    @property
    def form(self):
        """The error as what JSON can hold."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


class Gone(ConnectionError):
    """The client has hung up, so nothing more is computed for it."""
