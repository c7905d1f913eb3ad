"""Distinct everyday English sentences, from a small grammar and from WordNet.

WordNet 3.0 (Debian package wordnet-base) has usage examples with its definitions. They are read
from the installed package and are not copied into the project.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

WORDNET = Path("/usr/share/wordnet")
PARTS_OF_SPEECH = ("verb", "noun", "adj", "adv")
WORDS = (4, 10)  # fewest and most words of a sentence
EVERYDAY = 3  # a word is an everyday word if at least this many examples contain it

# Each line is a rule: a name, and the options that may replace it. Names are in capitals.
GRAMMAR = """
SENTENCE: STATEMENT / STATEMENT / STATEMENT / STATEMENT and STATEMENT / QUESTION / QUESTION / \
    ORDER / SHORT / DIGITS / WHEN STATEMENT / STATEMENT WHEN / STATEMENT but STATEMENT
STATEMENT: THEY PAST THING / THEY PAST THING WHERE / I MAY DO THING / THEY MAY DO THING WHEN / I \
    AM FEELING / THING IS QUALITY / THIS IS THING / there is THING WHERE / PERSON WENT WHERE / \
    PERSON SAID STATEMENT / I THINK STATEMENT / THING IS WHERE / THEY PAST HIM THING / it is \
    QUALITY TO DO THING / PERSON likes THING / PERSON LIKES TO DO THING / WE DO THING WHEN / \
    PERSON never PAST THING / it was THING / my FAMILY IS A JOB / I NEED THING / PERSON PAST it
QUESTION: MAY you DO THING / where is THING / do you LIKE THING / what did PERSON DO WHEN / why \
    did PERSON DO THING / who PAST THING / how many THINGS did you SEE / is THING QUALITY / did \
    PERSON DO THING WHERE / what is PERSON doing WHEN / when will PERSON DO THING / can I DO \
    THING WHEN / what do you THINK about THING / how long is THING
ORDER: please DO THING / DO THING WHERE / don't DO THING / let's DO THING WHEN / PERSON please DO \
    THING / never DO THING again / tell HIM about THING / look at THING
SHORT: thank you for THING / nice to see you again / i don't know HIM / that's very QUALITY / \
    it's THING / here is THING / what a QUALITY NOUN / not so QUALITY / all of THING / how \
    QUALITY it is / i'm not FEELING / yes it is QUALITY / no it isn't THING
DIGITS: DIGIT DIGIT DIGIT DIGIT / DIGIT DIGIT DIGIT DIGIT DIGIT DIGIT
DIGIT: zero / one / two / three / four / five / six / seven / eight / nine
COUNT: two / three / four / five / six / seven / eight / nine / ten / twelve / twenty / thirty / \
    forty / fifty / a hundred / a few / many / some / several / all the / most
THING: A NOUN / A NOUN / A QUALITY NOUN / COUNT THINGS / THINGS / the NOUN of THE NOUN
A: a / the / the / my / your / his / her / our / their / this / that / another / every / no
THE: the / a / my / his / her / our / their
THIS: this / that / it / here
IS: is / was / isn't / wasn't / will be / must be / may be / is still / was never / is always
AM: am / was / am not / was so / am very / feel / felt
I: i
WE: we / they / you / i / people / children
THEY: i / i / you / he / he / she / she / it / we / they / PERSON / my FAMILY / THE JOB
PERSON: he / she / NAME / NAME / my FAMILY / her FAMILY / THE JOB / everyone / nobody / someone
HIM: him / her / me / us / them / NAME / my FAMILY / the JOB / everyone / nobody / someone
NAME: anna / ben / david / emma / george / helen / jack / james / jane / john / julia / kate / \
    laura / lucy / mark / mary / max / mike / nick / paul / peter / rose / sam / sarah / tom / \
    tony / lily / henry / alice / frank
FAMILY: mother / father / sister / brother / son / daughter / uncle / aunt / grandmother / \
    grandfather / friend / husband / wife / family / cousin / boss / neighbour / baby
JOB: doctor / teacher / nurse / driver / farmer / cook / writer / singer / student / soldier / \
    lawyer / king / queen / judge / captain / artist / painter / worker / manager / guest / thief
MAY: can / could / will / would / should / must / may / might / shall / can't / won't / couldn't \
    / wouldn't / shouldn't / didn't / have to / want to / used to / need to
LIKES: likes / loves / wants / hates / needs / tries / began / started / forgot / hopes
LIKE: like / love / need / want / have / remember
TO: to / for me to / for us to / not to
THINK: think / hope / believe / know / feel / guess / thought / knew
SAID: said / thinks / knows / told me / says / heard / believed / hoped
NEED: need / want / have / had / lost / like / love / miss
SEE: see / buy / find / want / read / eat / count / hear / take / bring
DO: see / take / make / give / find / use / call / try / leave / keep / hold / bring / write / \
    read / hear / play / move / pay for / meet / learn / change / watch / follow / stop / open / \
    buy / send / build / break / cut / wait for / ask for / look for / help / carry / clean / \
    close / count / draw / drink / eat / catch / choose / cook / cover / push / pull / paint / \
    wash / show / share / sell / save / visit / throw / touch / wear / think about / talk about / \
    worry about / put down / pick up / turn on / turn off / give up / forget / lose / win / steal \
    / paint
PAST: saw / took / made / gave / found / used / called / tried / left / kept / held / brought / \
    wrote / read / heard / played / moved / paid for / met / learned / changed / watched / \
    followed / stopped / opened / bought / sent / built / broke / cut / waited for / asked for / \
    looked at / looked for / helped / carried / cleaned / closed / counted / drew / drank / ate / \
    caught / chose / cooked / covered / pushed / pulled / washed / showed / shared / sold / saved \
    / visited / threw / touched / wore / thought about / talked about / put down / picked up / \
    turned on / turned off / gave up / forgot / lost / won / wanted / needed / loved / liked / \
    had / knew / remembered / enjoyed / got / passed / reached / hid / noticed / fixed
WENT: went / walked / ran / drove / came / sat / stood / lives / works / stayed / slept / fell / \
    waited / looked / turned / goes / is / was / played / swam
FEELING: happy / sad / tired / angry / hungry / thirsty / cold / hot / sorry / afraid / sick / \
    late / ready / busy / alone / sure / glad / lucky / bored / surprised / worried / proud / \
    quiet / well
QUALITY: good / bad / big / small / new / old / long / short / great / little / young / easy / \
    hard / beautiful / nice / warm / cold / hot / red / blue / green / yellow / white / black / \
    brown / strange / strong / weak / heavy / light / fast / slow / clean / dirty / dark / bright \
    / cheap / dear / rich / poor / full / empty / wide / deep / high / low / soft / quiet / loud \
    / dangerous / safe / funny / important / interesting / different / difficult / true / wrong / \
    right / sweet / fresh / wet / dry / round / sharp / famous / wonderful / terrible / wild / \
    free / simple / fair
NOUN: time / year / day / way / man / woman / child / boy / girl / world / life / hand / part / \
    place / week / case / point / number / group / problem / fact / house / room / door / window \
    / table / chair / bed / book / story / word / letter / page / picture / song / car / bus / \
    train / boat / plane / road / street / bridge / city / town / country / school / class / \
    office / shop / market / garden / tree / flower / river / mountain / sea / beach / sky / sun \
    / moon / star / wind / storm / fire / animal / dog / cat / horse / bird / fish / cow / sheep \
    / mouse / rabbit / lion / tiger / bear / monkey / elephant / apple / orange / egg / cake / \
    bread / meal / dinner / cup / glass / bottle / box / bag / coat / hat / shirt / shoe / dress \
    / ring / watch / phone / computer / game / ball / team / question / answer / reason / idea / \
    plan / dream / job / lesson / test / party / holiday / present / letter / face / eye / head / \
    heart / voice / smile / name / friend / neighbour / stranger / hospital / church / farm / \
    kitchen / wall / floor / light / knife / stone / field / forest / island / village / war / \
    law / price / bill / key / machine
THINGS: days / years / people / men / women / children / hands / eyes / words / books / letters / \
    pictures / songs / cars / trains / houses / rooms / windows / streets / shops / schools / \
    trees / flowers / birds / dogs / cats / horses / animals / friends / apples / oranges / eggs \
    / cakes / shoes / clothes / games / questions / answers / ideas / things / stories / places / \
    stars / clouds / mountains / rivers / leaves / teeth / feet / hours / minutes / weeks / boxes \
    / bags / cups / plates / chairs / tables / keys / students / teachers / doctors / soldiers / \
    money / music / water / milk / food / rice / meat / fruit / tea / coffee / sugar / salt / \
    paper / news / work / homework / football / basketball / tennis / english / love / luck / \
    help / snow / rain
WHERE: at home / at school / at work / in the NOUN / in the NOUN / on the NOUN / under the NOUN / \
    near the NOUN / behind the NOUN / by the NOUN / to the NOUN / from the NOUN / into the NOUN / \
    over there / here / outside / upstairs / in front of the NOUN / across the NOUN / away / with \
    HIM / without HIM / next to the NOUN / in QUALITY places / out of the NOUN / back home
WHEN: today / yesterday / tomorrow / tonight / now / again / every day / every morning / last \
    night / last week / next year / in the morning / in the evening / at night / at noon / on \
    monday / on sunday / on friday / COUNT days ago / after dinner / before lunch / for COUNT \
    years / soon / one day / once more / this time / at last / too late / all day long / in \
    winter / in the summer
"""


def sentences(chance: Random, wordnet: Path | None) -> Iterator[str]:
    """Yield distinct sentences without end, spelled with a-z, the apostrophe and the space.

    Half of them come from WordNet and half from the grammar, until WordNet's are used up.

    Raises
    ------
    FileNotFoundError
        If ``wordnet`` does not hold WordNet's data files.
    """
    examples = wordnet_examples(wordnet) if wordnet else []
    chance.shuffle(examples)
    rules = grammar()
    yielded: set[str] = set()
    while True:
        from_wordnet = examples and chance.random() < 0.5
        sentence = examples.pop() if from_wordnet else expand(rules, "SENTENCE", chance)
        if sentence not in yielded and WORDS[0] <= len(sentence.split()) <= WORDS[1]:
            yielded.add(sentence)
            yield sentence


def grammar() -> dict[str, list[list[str]]]:
    """Return the options of each name; an option is a list of words and names."""
    lines = GRAMMAR.replace("\\\n", "").strip().splitlines()
    rules = (line.split(":") for line in lines)
    return {name: [option.split() for option in options.split("/")] for name, options in rules}


def expand(rules: dict[str, list[list[str]]], name: str, chance: Random) -> str:
    """Replace a name by random options of the rules until only words are left."""
    words = chance.choice(rules[name])
    text = " ".join(expand(rules, word, chance) if word in rules else word for word in words)
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def wordnet_examples(folder: Path) -> list[str]:
    """Return WordNet's usage examples of everyday words, sorted."""
    examples: set[str] = set()
    for part in PARTS_OF_SPEECH:
        for line in (folder / f"data.{part}").read_text(encoding="latin-1").lower().splitlines():
            for quotation in re.findall('"([a-z\',.;:?! ]+)"', line.partition(" | ")[2]):
                words = [word.strip("'") for word in re.findall("[a-z']+", quotation)]
                examples.add(" ".join(word for word in words if word))
    sized = [text for text in sorted(examples) if WORDS[0] <= len(text.split()) <= WORDS[1]]
    uses = Counter(word for text in sized for word in text.split())
    return [text for text in sized if all(uses[word] >= EVERYDAY for word in text.split())]
