"""Who looks at the page: without sign-in one local user, with it each their own owner.

Sign-in is Streamlit's: OpenID Connect, by `[auth]` in its secrets.
"""

import ipaddress
import logging
from pathlib import Path

import streamlit as st

from ui.texts import text

LOCAL = "local"

logger = logging.getLogger(__name__)


def signed_in_owner() -> str | None:
    """The owner of what this page shows; None, and a page to sign in on, before they did."""
    if not sign_in_required():
        return LOCAL
    if st.user.get("is_logged_in"):
        return f"{st.user['iss']}#{st.user['sub']}"  # a subject is unique at its issuer only
    st.header(text("page.title"), anchor=False)
    if _sign_in_works():
        st.markdown(text("account.sign_in_text"))
        st.button(text("account.sign_in"), type="primary", icon=":material/login:", on_click=st.login)
    else:
        st.error(text("account.broken"), icon=":material/error:")
    return None


def draw_account() -> None:
    """Who is signed in, and how to sign out."""
    if sign_in_required():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(str(st.user.get("email") or st.user.get("name") or st.user["sub"]))
            st.button(text("account.sign_out"), key="sign-out", icon=":material/logout:", on_click=st.logout)


@st.cache_resource(show_spinner=False)
def sign_in_required() -> bool:
    """Whether `[auth]` is configured, once and for all of this process.

    Streamlit takes secrets that it cannot read for none; nobody shall be let in by that.
    """
    unreadable = not st.secrets.load_if_toml_exists() and any(
        Path(file).is_file() for file in st.get_option("secrets.files")
    )
    return _sign_in_works() or unreadable


def _sign_in_works() -> bool:
    return "is_logged_in" in st.user  # only there if [auth] is configured


def draw_public_warning() -> None:
    """Warn that everybody shares one owner, where others can reach the page."""
    if not sign_in_required() and not _is_loopback(st.get_option("server.address")):
        _log_public_warning()
        st.warning(text("account.public"), icon=":material/public:")


@st.cache_resource(show_spinner=False)
def _log_public_warning() -> None:
    logger.warning(
        "The page is served on a public address without sign-in: everybody who opens it sees all "
        "conversations. Serve it on 127.0.0.1, or configure [auth] (see the README)."
    )


def _is_loopback(address: str | None) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address or "0.0.0.0").is_loopback
    except ValueError:
        return False  # a name: who knows where it leads
