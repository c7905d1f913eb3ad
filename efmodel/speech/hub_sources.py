"""Corpora on the Hugging Face Hub: repositories, languages, columns, spelling of the texts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from efmodel.errors import DataError, did_you_mean
from efmodel.speech.corpus_spelling import join_clitics, lower, unquote


@dataclass(frozen=True)
class Source:
    """A corpus on the Hub.

    Attributes
    ----------
    repository, revision : str
        Repository on the Hub, and its branch with parquet files.
    train, test : str
        Glob patterns of the parquet files of both halves, also in a local copy; ``{part}`` stands
        for the language's part of the repository.
    text, speaker : str
        Names of the columns; the audio is in ``audio``. Without speaker all is one speaker.
    spell : callable
        Converts a transcript to plain spelling.
    language : str
        Language that is read by default.
    parts : Mapping
        The languages, and what the repository calls each one's part.
    any_language : bool
        Whether the repository has more languages than ``parts``, under their own codes.
    note : str
        Known obstacle to reading it from the Hub, for an error message.
    """

    repository: str
    train: str
    test: str
    text: str
    speaker: str
    spell: Callable[[str], str]
    revision: str = "main"
    language: str = "en"
    parts: Mapping[str, str] = field(default_factory=lambda: {"en": "en"})
    any_language: bool = False
    note: str = ""

    def in_language(self, language: str) -> "Source":
        """Return this corpus with the patterns of a language; empty for the default one.

        Raises
        ------
        DataError
            If it does not have this language.
        """
        language = language or self.language
        known = language in self.parts or language in self.parts.values() or self.any_language
        if not known:
            languages = ", ".join(sorted(self.parts))
            hint = did_you_mean(language, self.parts)
            raise DataError(
                f"language: found {language!r}, wanted one that {self.repository} has: "
                f"{languages}{hint}"
            )
        part = self.parts.get(language, language)
        return replace(self, train=self.train.format(part=part), test=self.test.format(part=part))


# VoxPopuli's transcribed languages: the configurations of facebook/voxpopuli.
VOXPOPULI = "en de fr es pl it ro hu cs nl fi hr sk sl et lt"
MLS = {
    "de": "german", "nl": "dutch", "fr": "french", "es": "spanish", "it": "italian",
    "pt": "portuguese", "pl": "polish",
}  # fmt: skip
# The configurations of google/fleurs: a language and a country.
FLEURS = """
    af_za am_et ar_eg as_in ast_es az_az be_by bg_bg bn_in bs_ba ca_es ceb_ph ckb_iq cmn_hans_cn
    cs_cz cy_gb da_dk de_de el_gr en_us es_419 et_ee fa_ir ff_sn fi_fi fil_ph fr_fr ga_ie gl_es
    gu_in ha_ng he_il hi_in hr_hr hu_hu hy_am id_id ig_ng is_is it_it ja_jp jv_id ka_ge kam_ke
    kea_cv kk_kz km_kh kn_in ko_kr ky_kg lb_lu lg_ug ln_cd lo_la lt_lt luo_ke lv_lv mi_nz mk_mk
    ml_in mn_mn mr_in ms_my mt_mt my_mm nb_no ne_np nl_nl nso_za ny_mw oc_fr om_et or_in pa_in
    pl_pl ps_af pt_br ro_ro ru_ru sd_in sk_sk sl_si sn_zw so_so sr_rs sv_se sw_ke ta_in te_in
    tg_tj th_th tr_tr uk_ua umb_ao ur_pk uz_uz vi_vn wo_sn xh_za yo_ng yue_hant_hk zu_za
"""

SOURCES = {
    "librispeech": Source(
        "openslr/librispeech_asr",
        "clean/train.100/*.parquet",
        "clean/test/*.parquet",
        text="text",
        speaker="speaker_id",
        spell=lower,
    ),
    "tedlium": Source(
        "LIUM/tedlium",
        "release3/train/*.parquet",
        "release3/test/*.parquet",
        text="text",
        speaker="speaker_id",
        spell=join_clitics,
        revision="refs/convert/parquet",
        note="The repository itself holds archives and a loading script, and may ask for a login.",
    ),
    "voxpopuli": Source(
        "facebook/voxpopuli",
        "{part}/train-*.parquet",
        "{part}/test-*.parquet",
        text="normalized_text",
        speaker="speaker_id",
        spell=str,
        parts={code: code for code in VOXPOPULI.split()},
    ),
    "commonvoice": Source(
        "mozilla-foundation/common_voice_17_0",
        "{part}/train/*.parquet",
        "{part}/test/*.parquet",
        text="sentence",
        speaker="client_id",
        spell=unquote,
        revision="refs/convert/parquet",
        any_language=True,
        note="Mozilla took Common Voice off the Hub in 2025 and gives it out itself: --data with "
        "the folder of an extracted archive reads it.",
    ),
    "mls": Source(
        "facebook/multilingual_librispeech",
        "{part}/train-*.parquet",
        "{part}/test-*.parquet",
        text="transcript",
        speaker="speaker_id",
        spell=lower,
        language="de",
        parts=MLS,
    ),
    "fleurs": Source(
        "google/fleurs",
        "{part}/train/*.parquet",
        "{part}/test/*.parquet",
        text="transcription",
        speaker="",
        spell=lower,
        revision="refs/convert/parquet",
        parts={name.partition("_")[0]: name for name in FLEURS.split()}
        | {"zh": "cmn_hans_cn", "no": "nb_no", "tl": "fil_ph"},
        note="The repository itself holds archives and a loading script: --data with the folder of "
        "an extracted language (train.tsv and audio/train) reads them.",
    ),
    "speechocean762": Source(
        "mispeech/speechocean762",
        "data/train-*.parquet",
        "data/test-*.parquet",
        text="text",
        speaker="speaker",
        spell=lower,
    ),
}
