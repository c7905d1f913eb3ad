"""Texts before they are spelt: one table of examples for each language."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efmodel.speech import languages
from efmodel.speech.normaliser import Normaliser, in_units, is_letter
from efmodel.speech.numbers import chinese
from efmodel.speech.spelling import Spelling


def normalised(text: str, language: str = "", **choices: str) -> str:
    return Spelling(None, Normaliser(language, **choices)).spell(text).words


ENGLISH = [
    ("I have 3 cats.", "i have three cats"),
    ("21 of 105", "twenty one of one hundred and five"),
    ("1,234 people", "one thousand two hundred and thirty four people"),
    ("3.14", "three point one four"),
    ("in 1999, not 2024", "in nineteen ninety nine not twenty twenty four"),
    ("the 1st and the 22nd", "the first and the twenty second"),
    ("$5.50, $1 and £20", "five dollars fifty one dollar and twenty pounds"),
    ("$5 million", "five million dollars"),
    ("50% or 7 %", "fifty percent or seven percent"),
    ("at 14:30, 9:05 and 9:00", "at fourteen thirty nine oh five and nine o'clock"),
    ("call 0049 123", "call zero zero four nine one hundred and twenty three"),
    ("-5 degrees, 20°C", "minus five degrees twenty degrees"),
    ("rock & roll", "rock and roll"),
    ("5km MP3", "five km mp three"),
    ("[laughter] well <unk> {NOISE} yes", "well yes"),
    ("great 👍🏽 job ❤️!", "great job"),
    ("It’s “fine”—really…", "it's fine really"),
]
GERMAN = [
    ("Äpfel für Öl & Straße", "äpfel für öl und straße"),
    ("21 Leute", "einundzwanzig leute"),
    ("1.234,5", "eintausendzweihundertvierunddreißig komma fünf"),
    ("am 3. Mai 1999", "am dritten mai neunzehnhundertneunundneunzig"),
    ("der 2. Platz", "der zweite platz"),
    ("Es waren 30. Danach kam er.", "es waren dreißig danach kam er"),
    ("5,50 € und 3 Mio. €", "fünf euro fünfzig und drei mio euro"),
    ("um 14:30 Uhr", "um vierzehn uhr dreißig"),
    ("50 %", "fünfzig prozent"),
]
FRENCH = [
    ("Où est l’élève n° 5 ?", "où est l'élève n cinq"),
    ("le 1er mai, la 1re fois, le 2e", "le premier mai la première fois le deuxième"),
    ("1 234 et 1\u202f000", "mille deux cent trente quatre et mille"),
    ("3,14", "trois virgule un quatre"),
    ("5,50 €", "cinq euros cinquante"),
    ("à 14h30", "à quatorze heures trente"),
    ("80 %", "quatre vingts pour cent"),
    ("cœur", "cœur"),
]
SPANISH = [
    ("¿Qué? ¡Año 2024!", "qué año dos mil veinticuatro"),
    ("1.234 personas", "mil doscientos treinta y cuatro personas"),
    ("3,5", "tres coma cinco"),
    ("la 1ª vez, el 2.º piso", "la primera vez el segundo piso"),
    ("5,50 € y $1", "cinco euros cincuenta y uno dólar"),
    ("a las 14:30", "a las catorce treinta"),
    ("50 %", "cincuenta por ciento"),
]
ITALIAN = [
    ("perché no?", "perché no"),
    ("21 anni", "ventuno anni"),
    ("1.234", "milleduecentotrentaquattro"),
    ("la 3ª volta", "la terza volta"),
    ("5,50 €", "cinque euro cinquanta"),
    ("alle 14:30", "alle quattordici e trenta"),
    ("50%", "cinquanta per cento"),
]
ARABIC = [
    ("خَلْفٌ", "خلف"),
    ("مـــرحبا، عالم؟", "مرحبا عالم"),
    ("٢١ كتاب", "واحد وعشرون كتاب"),
    ("٥٠٪", "خمسون بالمئة"),
    ("5 $", "خمسة دولار"),
    ("\ufefb", "لا"),
]
RUSSIAN = [
    ("Ёлка и ещё", "ёлка и ещё"),
    ("21 % и 5 %", "двадцать один процент и пять процентов"),
    ("1 ₽, 2 ₽, 5 ₽", "один рубль два рубля пять рублей"),
    ("3-й, 3-го, 2-я", "третий третьего вторая"),
    ("1\u00a0000", "одна тысяча"),
    ("3,5", "три запятая пять"),
]
CHINESE = [
    ("今天，天气很好。", "今天天气很好"),
    ("我有 21 本书", "我有二十一本书"),
    ("2024年5月", "二零二四年五月"),
    ("50%", "百分之五十"),
    ("¥5.50", "五点五元"),
    ("14:30", "十四点三十分"),
    ("我用 iPhone 手机", "我用 iphone 手机"),
]
EXAMPLES = {
    "en": ENGLISH, "de": GERMAN, "fr": FRENCH, "es": SPANISH, "it": ITALIAN, "ar": ARABIC,
    "ru": RUSSIAN, "zh": CHINESE,
}  # fmt: skip
TABLE = [(code, *example) for code, table in EXAMPLES.items() for example in table]


@pytest.mark.parametrize(("language", "text", "words"), TABLE)
def test_each_language_reads_its_texts(language, text, words):
    assert normalised(text, language) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I have 3 cats & a dog", "i have 3 cats a dog"),
        ("Straße, ÉTÉ, Ёлка", "straße été ёлка"),
        ("مـــرحبا، خَلْف؟", "مرحبا خَلْف"),
        ("हिन्दी में।", "हिन्दी में"),
        ("สวัสดี ครับ", "สวัสดีครับ"),
        ("\u30ab\u3099", "ガ"),  # NFC: one letter
        ("\uff21\uff22\uff23 \ufb01ne x\u00b2", "abc fine x2"),
        ("e\u0301 1\ufe0f\u20e3 \U0001f600\u200d\u2642\ufe0f", "é 1"),
    ],
)
def test_without_a_language_every_script_keeps_its_letters(text, words):
    assert normalised(text) == words


def test_numbers_and_case_are_a_choice():
    assert normalised("Room 12", "en", numbers="digits") == "room 12"
    assert normalised("Room 12", "en", numbers="drop") == "room"
    assert normalised("Room 12", "en", case="keep") == "Room twelve"
    dropped = Spelling(None, Normaliser(numbers="drop")).spell("a 12").dropped
    assert dropped == {"1": 1, "2": 1}


def test_turkish_has_an_i_without_a_dot():
    assert normalised("ISPARTA İstanbul %50", "tr") == "ısparta istanbul yüzde elli"
    assert normalised("ISPARTA İstanbul") == "isparta istanbul"


def test_hindi_has_no_words_for_numbers_here_and_keeps_digits():
    assert normalised("५ और 12", "hi") == "५ और 12"
    assert "numbers stay digits" in str(Normaliser("hi"))
    assert "German (de): numbers, times and currencies are words" in str(Normaliser("de"))


@pytest.mark.parametrize("code", [c for c, one in languages.known().items() if one.numbers])
def test_numbers_of_every_language_become_letters_of_its_script(code):
    words = normalised("0 7 21 105 1999 20000 3 %", code)
    assert words and not any(character.isdigit() for character in words)
    normalised("1. 2. 3.5 12:30 $5 €2 5% & + 1,5 1:1", code)  # none of it is an error


@pytest.mark.parametrize("code", languages.known())
def test_every_alphabet_holds_small_letters_only(code):
    letters = languages.get(code).alphabet()
    odd = {c for c in letters if not is_letter(c) and c not in "'·ำ"}
    assert len(letters) >= 22 and not odd and not {c for c in letters if c != c.lower()}


def test_alphabets_are_those_of_their_languages():
    size = {code: len(languages.get(code).alphabet()) for code in languages.known()}
    assert (size["en"], size["de"], size["ru"], size["he"], size["ar"]) == (27, 31, 33, 27, 36)
    assert (size["zh"], size["ko"], size["zh-hant"]) == (3755, 2350, 5401)
    assert {*"äöüß"} < languages.get("de").alphabet() and "的" in languages.get("zh").alphabet()
    with pytest.raises(languages.LanguageError, match="found 'germn', wanted one of en, de"):
        languages.get("germn")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "零"), (10, "十"), (12, "十二"), (110, "一百一十"), (105, "一百零五"),
        (1005, "一千零五"), (20_010, "二万零一十"), (100_000, "十万"),
        (1_234_567, "一百二十三万四千五百六十七"), (100_010_000, "一亿零一万"),
        (1_000_000_000_005, "一万亿零五"),
    ],
)  # fmt: skip
def test_chinese_numerals(number, words):
    assert chinese(number) == words


@given(st.text(max_size=30) | st.text("0123456789.,:%$€-a ", max_size=30))
@pytest.mark.parametrize("code", ["en", "de", "ru", "zh", "ar"])
def test_a_normalised_text_stays_as_it_is(code, text):
    once = normalised(text, code)
    assert normalised(once, code) == once


def test_characters_count_as_words_where_no_spaces_stand_between():
    assert in_units("今天天气 ok") == "今 天 天 气 ok"
    assert in_units("我用iphone手机") == "我 用 iphone 手 机"
    assert in_units("สวัสดี") == "ส วั ส ดี"  # with their marks
    assert in_units("two words, مرحبا") == "two words, مرحبا"
