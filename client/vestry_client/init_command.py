"""`vestry-site init`."""

from vestry_client.command_options import DEFAULT_HOME, Head, Home, Json, note, print_json, say

__all__ = ["init"]


def init(home: Home = DEFAULT_HOME, head: Head = None, as_json: Json = False) -> None:
    """Make a site's folder: its key, an empty ledger and journal, and a policy that denies everything.

    What is there already stays as it is.
    """
    from vestry_client.home import SiteHome

    site = SiteHome(home, head)
    identity, made = site.create()
    if as_json:
        print_json(
            {
                "home": str(site.folder),
                "fingerprint": identity.fingerprint,
                "public_key": identity.public_key.hex(),
                "made": [path.name for path in made],
            }
        )
        return
    for path in (site.identity, site.public_key, site.ledger, site.journal, site.policy):
        note(f"{path}: {'made' if path in made else 'is there already, left as it is'}")
    note(f"Next: say in {site.policy} what this site allows. As it stands, nothing trains.")
    say(f"fingerprint {identity.fingerprint}")
    say(f"public key  {identity.public_key.hex()}")
