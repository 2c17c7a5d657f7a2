"""Section headings and the five sentence roles that they stand for."""

from __future__ import annotations

import re

from wellread.corpus.documents import ROLES, Section

# Headings as authors print them, in upper case.  Only plain cases: "AIM AND METHODS" is left without a role.
_ROLE_OF = {
    "BACKGROUND": "BACKGROUND INTRODUCTION CONTEXT RATIONALE",
    "OBJECTIVE": "OBJECTIVE OBJECTIVES AIM AIMS PURPOSE GOAL GOALS",
    "METHODS": "METHODS METHOD METHODOLOGY DESIGN SETTING PARTICIPANTS PATIENTS SUBJECTS INTERVENTION "
    "INTERVENTIONS MEASUREMENTS",
    "RESULTS": "RESULTS RESULT FINDINGS",
    "CONCLUSIONS": "CONCLUSIONS CONCLUSION INTERPRETATION",
}
_PHRASES = {
    "MATERIALS AND METHODS": "METHODS",
    "MATERIAL AND METHODS": "METHODS",
    "METHODS AND MATERIALS": "METHODS",
    "PATIENTS AND METHODS": "METHODS",
    "SUBJECTS AND METHODS": "METHODS",
    "PARTICIPANTS AND METHODS": "METHODS",
    "EXPERIMENTAL DESIGN": "METHODS",
    "STUDY DESIGN": "METHODS",
    "DESIGN AND METHODS": "METHODS",
    "METHODS AND DESIGN": "METHODS",
    "METHODS/DESIGN": "METHODS",
    "DESIGN AND SETTING": "METHODS",
    "STATISTICAL ANALYSIS": "METHODS",
    "DATA SOURCES": "METHODS",
    "MAIN OUTCOME MEASURES": "METHODS",
    "MAIN OUTCOME MEASURE": "METHODS",
    "OUTCOME MEASURES": "METHODS",
    "AIM OF THE STUDY": "OBJECTIVE",
    "PURPOSE OF THE STUDY": "OBJECTIVE",
    "STUDY OBJECTIVE": "OBJECTIVE",
    "STUDY OBJECTIVES": "OBJECTIVE",
    "AIMS AND OBJECTIVES": "OBJECTIVE",
    "AIM AND OBJECTIVES": "OBJECTIVE",
    "MAIN RESULTS": "RESULTS",
    "PRINCIPAL FINDINGS": "RESULTS",
    "KEY FINDINGS": "RESULTS",
    "MAIN CONCLUSIONS": "CONCLUSIONS",
    "AUTHORS' CONCLUSIONS": "CONCLUSIONS",
    "CONCLUSIONS AND RELEVANCE": "CONCLUSIONS",
    "CONCLUSIONS AND SIGNIFICANCE": "CONCLUSIONS",
    "CONCLUSION AND SIGNIFICANCE": "CONCLUSIONS",
    "SUMMARY AND CONCLUSIONS": "CONCLUSIONS",
    "KEY CONCLUSIONS": "CONCLUSIONS",
}
_TABLE = {word: role for role, words in _ROLE_OF.items() for word in words.split()} | _PHRASES


def role_of(heading: str) -> str:
    """The role that a printed heading stands for, "" where it is none of the plain cases."""
    plain = re.sub(r"^[\d.\s]+", "", heading.upper().replace("&", "AND").replace("’", "'"))
    return _TABLE.get(" ".join(plain.split()).rstrip(":. "), "")


def section(heading: str, text: str, stated: str = "") -> Section:
    """A section with the role that the source states (if it is one of ROLES), else the heading's."""
    label = stated.upper()
    return Section(heading, label if label in ROLES else role_of(heading), text)
