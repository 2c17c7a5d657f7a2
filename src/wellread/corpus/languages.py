"""Codes of languages, however a source writes them."""

from __future__ import annotations

# ISO 639-1 codes as ISO 639-2/B, which PubMed uses, for the languages of most biomedical papers.
_LONG_CODE = {
    **{"en": "eng", "de": "ger", "fr": "fre", "es": "spa", "it": "ita", "pt": "por", "ru": "rus"},
    **{"zh": "chi", "ja": "jpn", "ko": "kor", "pl": "pol", "tr": "tur", "nl": "dut", "da": "dan"},
    **{"sv": "swe", "nb": "nor", "no": "nor", "fi": "fin", "cs": "cze", "hu": "hun", "ro": "rum"},
    **{"el": "gre", "he": "heb", "ar": "ara", "uk": "ukr", "hr": "hrv", "sk": "slo", "bg": "bul"},
    # The other three-letter codes of the same languages (ISO 639-2/T).
    **{"deu": "ger", "fra": "fre", "zho": "chi", "nld": "dut", "ces": "cze", "ron": "rum", "ell": "gre"},
    **{"slk": "slo"},
    # Their English names.
    **{"english": "eng", "german": "ger", "french": "fre", "spanish": "spa", "italian": "ita"},
    **{"portuguese": "por", "russian": "rus", "chinese": "chi", "japanese": "jpn", "korean": "kor"},
    **{"polish": "pol", "turkish": "tur", "dutch": "dut", "danish": "dan", "swedish": "swe"},
    **{"norwegian": "nor", "finnish": "fin", "czech": "cze", "hungarian": "hun", "romanian": "rum"},
    **{"greek": "gre", "hebrew": "heb", "arabic": "ara", "ukrainian": "ukr", "croatian": "hrv"},
    **{"slovak": "slo", "bulgarian": "bul"},
}


def language_code(code: str) -> str:
    """A language code as ISO 639-2/B: "en", "en-US" and "ENG" give "eng", "deu" and "German" give "ger"."""
    short = code.strip().lower().replace("_", "-").split("-")[0]
    return _LONG_CODE.get(short, short)
