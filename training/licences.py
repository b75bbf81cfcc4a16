"""Which licences of training images let the trained weights be used commercially."""

import re

# Only what is known to allow it, spelled out whole: a remark that nobody has judged is a no.
# Not among them:
# - NC, "research use", the rules of a competition (Kaggle, CTC): they forbid or do not grant it.
# - "none stated", "free, cite": without a grant, all rights are reserved.
# - GPL, LGPL, CC BY-SA: they allow commercial use, but of works derived under the same licence;
#   whether weights are such works is not settled, and who sells them cannot rely on either answer.
# - CC BY-ND: no derived works, of which weights may be one.
COMMERCIAL = re.compile(
    r"""
    (CC0 | CC[ -]BY | MIT | BSD([ -][0-4]-clause)? | Apache)
    ([ ]licen[cs]e)?
    ([ -]v?\d(\.\d)?)?
    ([ ](universal|international|unported))?
    ([ ]\(authors\))?  # where the licence was found: with the authors
    """,
    re.IGNORECASE | re.VERBOSE,
)


def commercial(text):
    """Whether a licence, as the catalogue names it, allows commercial use of trained weights.

    Conservative: what is not known to allow it does not.
    """
    return COMMERCIAL.fullmatch(text.strip()) is not None
