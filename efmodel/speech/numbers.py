"""Numbers, currencies, ordinals, times and signs as the words of a language.

The words of whole numbers are those of the library num2words; Chinese numerals are built here.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache

from efmodel.speech import languages
from efmodel.speech.languages import Language

LONGEST = 12  # digits of a number that is read as one; longer ones are read digit by digit
THIN = "\u00a0\u202f\u2009"  # narrow spaces between groups of digits
PERCENT = dict.fromkeys(map(ord, "\u066a\uff05\ufe6a"), "%")  # Arabic, full width, small
CLOCK = r"(?<![\d:.,])([01]?\d|2[0-4])(?::|(?<=\d)h(?=\d))([0-5]\d)(?![\d:])"
SLAVIC = re.compile(r"\{([^{}|]+)\|([^{}|]+)\|([^{}|]+)\}")
# Endings of Russian ordinals, for those of a masculine adjective (второй), and for третий.
RUSSIAN = {
    "я": "ая", "ая": "ая", "е": "ое", "ое": "ое", "го": "ого", "ого": "ого", "му": "ому",
    "ому": "ому", "м": "ом", "ом": "ом", "ые": "ые", "х": "ых", "ых": "ых",
}  # fmt: skip
THIRD = {
    "ая": "ья", "ое": "ье", "ого": "ьего", "ому": "ьему", "ом": "ьем", "ые": "ьи", "ых": "ьих",
}  # fmt: skip

Words = Callable[[re.Match[str]], str]


def in_words(text: str, language: Language) -> str:
    """Return a text with its numbers, and the signs beside them, written as words.

    Digits may be of any script. A number that starts with 0, or is longer than a phone number, is
    read digit by digit.
    """
    text = "".join(map(_latin_digit, text))
    text = text.replace("\u066b", language.decimal).replace("\u066c", language.group)
    text = text.translate(PERCENT)
    for pattern, words in _rules(language.code):
        # Words are set off from what surrounds them: "5km" are two.
        text = pattern.sub(lambda match, words=words: f" {words(match)} ", text)  # type: ignore[misc]
    return text


@cache
def _latin_digit(character: str) -> str:
    """Return a digit of any script as one of 0 to 9, and any other character as it is.

    A character that holds digits, such as a fraction, becomes what Unicode spells it with.
    """
    if character.isascii():
        return character
    if unicodedata.category(character) == "Nd":
        return str(unicodedata.digit(character))
    compatible = unicodedata.normalize("NFKC", character)
    return compatible if any(map(str.isdigit, compatible)) else character


@cache
def _rules(code: str) -> list[tuple[re.Pattern[str], Words]]:
    """Return the patterns of a language in the order in which they apply, and their words."""
    read = Reader(languages.get(code))
    rules = [*_currency_rules(read), *_clock_rules(read), *_sign_rules(read)]
    rules += [*_ordinal_rules(read), *_number_rules(read)]
    return [(re.compile(pattern, re.IGNORECASE), words) for pattern, words in rules]


def _currency_rules(read: "Reader") -> list[tuple[str, Words]]:
    language, number = read.language, _number(read.language)
    if not language.currencies:
        return []
    signs = "|".join(map(re.escape, language.currencies))
    scale = rf"(?:\s*({language.scales})(?!\w))?" if language.scales else "()"
    return [
        (rf"({signs})\s?({number}){scale}", lambda m: read.currency(m[2], m[3], m[1])),
        (rf"({number}){scale}\s?({signs})", lambda m: read.currency(m[1], m[2], m[3])),
    ]


def _clock_rules(read: "Reader") -> list[tuple[str, Words]]:
    word = rf"(?:\s*{read.language.clock_word}(?!\w))?" if read.language.clock_word else ""
    return [(CLOCK + word, lambda m: read.clock(m[1], m[2]))]


def _sign_rules(read: "Reader") -> list[tuple[str, Words]]:
    number = _number(read.language)

    def rule(sign: str, template: str) -> tuple[str, Words]:
        if "{" not in template:  # it stands between words or numbers
            return rf"\s?{re.escape(sign)}\s?", lambda m: template
        if sign == "-":
            return rf"(?<!\S)[-\u2212]({number})", lambda m: read.sign(template, m[1])
        if sign == "%":  # 50 %, and %50 in Turkish
            either = rf"({number})\s?%|%\s?({number})"
            return either, lambda m: read.sign(template, m[1] or m[2])
        return rf"({number})\s?{re.escape(sign)}", lambda m: read.sign(template, m[1])

    return [rule(sign, template) for sign, template in read.language.signs.items()]


def _ordinal_rules(read: "Reader") -> list[tuple[str, Words]]:
    language = read.language
    if not language.ordinals:
        return []
    before = rf"(?:(?<!\w)({language.inflected})\s+)?" if language.inflected else "()"
    pattern = rf"{before}(?<![\d.,])(\d{{1,4}})({language.ordinals})(?!\w)"
    return [(pattern, lambda m: read.ordinal(m[2], m[3], m[1] or ""))]


def _number_rules(read: "Reader") -> list[tuple[str, Words]]:
    year = [(r"(?<!\d)(\d{4})(?=年)", lambda m: read.number(m[1], one_by_one=True))]
    any_number = (_number(read.language), lambda m: read.number(m[0]))
    return [*year, any_number] if read.language.numbers == "zh" else [any_number]


def _number(language: Language) -> str:
    """Return the regular expression of a number as the language writes it; it has no groups."""
    groups = f"[{re.escape(language.group)}{THIN}]"
    decimals = f"(?:{re.escape(language.decimal)}\\d+)?"
    return rf"(?<!\d)(?:\d{{1,3}}(?:{groups}\d{{3}})+(?!\d){decimals}|\d+{decimals})"


class Reader:
    """Reads numbers aloud in a language."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.currencies = {sign.casefold(): forms for sign, forms in language.currencies.items()}

    def number(self, written: str, one_by_one: bool = False) -> str:
        """Return a number as words, or its digits one by one, as Chinese years are read."""
        whole, decimals = self._parts(written)
        if one_by_one or len(whole) > LONGEST or (len(whole) > 1 and whole[0] == "0"):
            words = self._digits(whole)
        elif self.language.years and written.isdigit() and 1100 <= int(whole) < 2100:
            words = self._whole(int(whole), "year")
        else:
            words = self._whole(int(whole))
        if not decimals:
            return words
        return self._joined(words, self.language.point, self._digits(decimals))

    def currency(self, written: str, scale: str | None, sign: str) -> str:
        """Return an amount as words: five dollars fifty, three million euros."""
        whole, decimals = self._parts(written)
        forms = self.currencies[sign.casefold()]
        if scale:
            return self._joined(self.number(written), scale, forms[-1])
        name = _form(int(whole), forms)
        if not decimals.strip("0"):
            return self._joined(self._whole(int(whole)), name)
        if len(decimals) == 2 and not self.language.charset:
            return self._joined(self._whole(int(whole)), name, self._whole(int(decimals)))
        return self._joined(self.number(written.rstrip("0")), forms[-1])

    def clock(self, hour: str, minute: str) -> str:
        """Return a time of day as words."""
        language = self.language
        h = self._whole(int(hour))
        if int(minute) == 0:
            return language.hour.format(h=h)
        m = self._whole(int(minute))
        if minute[0] == "0" and language.zero:
            m = f"{language.zero} {m}"
        return language.clock.format(h=h, m=m)

    def sign(self, template: str, written: str) -> str:
        """Return a number with what its sign is called."""
        whole, decimals = self._parts(written)
        forms = SLAVIC.search(template)
        if forms:
            form = forms[2] if decimals else _form(int(whole), [*forms.groups()])
            template = template.replace(forms[0], form)
        return template.replace("{}", self.number(written))

    def ordinal(self, written: str, ending: str, before: str) -> str:
        """Return an ordinal as words; ``ending`` and the word ``before`` it decide its form."""
        words, ending = self._whole(int(written), "ordinal"), ending.strip("-.").lower()
        code = self.language.code
        if code == "de" and before:
            return f"{before} {words}n"
        if code == "fr" and int(written) == 1:
            return "première" if ending.startswith(("è", "re")) else "premier"
        if code in ("es", "it", "pt") and ending in ("ª", "a", "ra", "da", "ta"):
            return re.sub(r"o\b", "a", words)
        if code == "es" and ending == "er":
            return re.sub(r"(primer|tercer)o$", r"\1", words)
        if code == "ru" and ending in RUSSIAN:
            new = RUSSIAN[ending]
            return words[:-2] + (THIRD[new] if words.endswith("ий") else new)
        return words

    def _parts(self, written: str) -> tuple[str, str]:
        """Return the digits before and after the decimal mark."""
        whole, _, decimals = written.partition(self.language.decimal)
        return re.sub(r"\D", "", whole), decimals

    def _digits(self, digits: str) -> str:
        return self._joined(*(self._whole(int(digit)) for digit in digits))

    def _joined(self, *words: str) -> str:
        """Return words side by side: without spaces where the script has none."""
        return ("" if self.language.charset else " ").join(word for word in words if word)

    def _whole(self, number: int, kind: str = "cardinal") -> str:
        if self.language.numbers == "zh":
            return chinese(number)
        from num2words import num2words  # imports all of its languages: a tenth of a second

        try:
            words = str(num2words(number, lang=self.language.numbers, to=kind))
        except (NotImplementedError, AttributeError):  # a language without ordinals or years
            words = str(num2words(number, lang=self.language.numbers))
        return words.replace(" و ", " و") if self.language.code == "ar" else words


def _form(number: int, forms: list[str]) -> str:
    """Return the form of a noun after a number: singular or plural, or one of three Slavic ones."""
    if len(forms) < 3:
        return forms[0] if number == 1 else forms[-1]
    if number % 10 == 1 and number % 100 != 11:
        return forms[0]
    few = 2 <= number % 10 <= 4 and not 12 <= number % 100 <= 14
    return forms[1] if few else forms[2]


def chinese(number: int) -> str:
    """Return a whole number below 10^16 in Chinese numerals."""
    if number == 0:
        return "零"
    words, gap = "", False
    for place, scale in ((10**12, "万亿"), (10**8, "亿"), (10**4, "万"), (1, "")):
        group = number // place % 10_000
        # A zero stands for what is missing after a higher group.
        zero = "零" if group and words and (gap or group < 1000) else ""
        words += f"{zero}{_chinese_group(group)}{scale}" if group else ""
        gap = not group
    return words.removeprefix("一") if words.startswith("一十") else words


def _chinese_group(number: int) -> str:
    """Return a number from 1 to 9999."""
    words, gap = "", False
    for unit, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // unit % 10
        if digit:
            words += ("零" if gap and words else "") + "零一二三四五六七八九"[digit] + name
        gap = not digit
    return words
