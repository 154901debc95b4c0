"""A small OpenID Connect provider on 127.0.0.1, to sign in on the page as anybody.

It checks what the app's side must get right: its credentials, redirect address and PKCE; a code works once.
It is no example of security: it asks for no password, and remembers nobody between two sign-ins.
"""

import html
import json
import time
from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_urlsafe
from threading import Thread
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID = "page-tests"
LIFETIME = 3600  # seconds


class Provider(ThreadingHTTPServer):
    """Serves while its `with` block lasts. Its sign-in page has one link per user, with the user's name."""

    def __init__(self, *users: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.users = users
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        self.client_secret = token_urlsafe()
        self.key = RSAKey.generate_key(2048, auto_kid=True)
        self.grants: dict[str, dict[str, str]] = {}  # by code: the user, and the request's parameters
        self.signed_in: dict[str, str] = {}  # users by access token

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def secrets(self, redirect_uri: str = "http://127.0.0.1:{port}/oauth2callback") -> str:
        """The text of a `secrets.toml` for this provider; Streamlit replaces `{port}` by the app's."""
        return f"""[auth]
redirect_uri = "{redirect_uri}"
cookie_secret = "{token_urlsafe()}"
client_id = "{CLIENT_ID}"
client_secret = "{self.client_secret}"
server_metadata_url = "{self.issuer}/.well-known/openid-configuration"
"""

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "end_session_endpoint": f"{self.issuer}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def sign_in_page(self, request: dict[str, str]) -> str:
        """Each link leads back to the app with a code of its own."""
        page = "<!doctype html><title>Sign in</title><h1>Sign in as</h1>"
        for user in self.users:
            code = token_urlsafe()
            self.grants[code] = request | {"user": user}
            back = f"{request['redirect_uri']}?{urlencode({'code': code, 'state': request['state']})}"
            page += f'<p><a href="{html.escape(back)}">{html.escape(user)}</a></p>'
        return page

    def tokens(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """The answer to a code, or None if anything about the request is wrong."""
        grant = self.grants.pop(form["code"], {})
        client = b64encode(f"{CLIENT_ID}:{self.client_secret}".encode()).decode()
        challenge = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        expected = {"redirect_uri": form["redirect_uri"], "code_challenge": challenge}
        if authorization != f"Basic {client}" or not expected.items() <= grant.items():
            return None
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + LIFETIME,
            "nonce": grant["nonce"],
        }
        header = {"alg": "RS256", "kid": self.key.kid}
        access_token = token_urlsafe()
        self.signed_in[access_token] = grant["user"]
        id_token = jwt.encode(header, claims | _about(grant["user"]), self.key)
        return {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": LIFETIME,
            "id_token": id_token,
        }

    def userinfo(self, authorization: str) -> dict[str, Any] | None:
        user = self.signed_in.get(authorization.removeprefix("Bearer "))
        return None if user is None else _about(user)

    def handle_error(self, request: object, client_address: object) -> None:
        """Silent: browsers go away in the middle of a response."""


def _about(user: str) -> dict[str, Any]:
    return {"sub": f"id-of-{user}", "name": user, "email": f"{user}@example.org"}


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        match url.path:
            case "/.well-known/openid-configuration":
                self.send_json(self.server.metadata())
            case "/jwks":
                self.send_json({"keys": [self.server.key.as_dict(private=False)]})
            case "/userinfo":
                self.send_json(self.server.userinfo(self.headers["Authorization"]))
            case "/authorize":
                self.send("Content-Type", "text/html; charset=utf-8", self.server.sign_in_page(query))
            case "/logout":
                self.send("Location", query["post_logout_redirect_uri"], status=302)
            case _:
                self.send_error(404)

    def do_POST(self) -> None:
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.send_json(self.server.tokens(form, self.headers["Authorization"]))

    def send_json(self, value: dict[str, Any] | None) -> None:
        body = json.dumps(value or {"error": "invalid_grant"})
        self.send("Content-Type", "application/json", body, status=200 if value else 400)

    def send(self, header: str, value: str, body: str = "", status: int = 200) -> None:
        self.send_response(status)
        self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""
