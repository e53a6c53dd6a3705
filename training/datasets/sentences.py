"""Something to say in many languages: words in a row, without punctuation."""

from __future__ import annotations

LANGUAGES = {
    "de": (
        "alle menschen sind frei und gleich an würde und rechten geboren sie sind mit vernunft und "
        "gewissen begabt und sollen einander im geist der brüderlichkeit begegnen heute morgen schien "
        "die sonne schön"
    ),
    "fr": (
        "tous les êtres humains naissent libres et égaux en dignité et en droits ils sont doués de "
        "raison et de conscience et doivent agir les uns envers les autres dans un esprit de fraternité "
        "aujourd'hui il pleut"
    ),
    "es": (
        "todos los seres humanos nacen libres e iguales en dignidad y derechos y dotados como están de "
        "razón y conciencia deben comportarse fraternalmente los unos con los otros mañana vamos a la "
        "playa"
    ),
    "pt": (
        "todos os seres humanos nascem livres e iguais em dignidade e em direitos dotados de razão e de "
        "consciência devem agir uns para com os outros em espírito de fraternidade amanhã não vou à "
        "praia"
    ),
    "nl": (
        "alle mensen worden vrij en gelijk in waardigheid en rechten geboren zij zijn begiftigd met "
        "verstand en geweten en behoren zich jegens elkander in een geest van broederschap te gedragen"
    ),
    "pl": (
        "wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw są oni "
        "obdarzeni rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa"
    ),
    "ru": (
        "все люди рождаются свободными и равными в своём достоинстве и правах они наделены разумом и "
        "совестью и должны поступать в отношении друг друга в духе братства"
    ),
    "sv": (
        "alla människor är födda fria och lika i värde och rättigheter de har utrustats med förnuft och "
        "samvete och bör handla gentemot varandra i en anda av gemenskap"
    ),
    "tr": (
        "bütün insanlar hür haysiyet ve haklar bakımından eşit doğarlar akıl ve vicdana sahiptirler ve "
        "birbirlerine karşı kardeşlik zihniyeti ile hareket etmelidirler"
    ),
    "fi": (
        "kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan heille on annettu "
        "järki ja omatunto ja heidän on toimittava toisiaan kohtaan veljeyden hengessä"
    ),
    "cs": (
        "všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv jsou nadáni rozumem a "
        "svědomím a mají spolu jednat v duchu bratrství"
    ),
    "el": (
        "όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα είναι "
        "προικισμένοι με λογική και συνείδηση"
    ),
    "hi": ("सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है"),
    "id": (
        "semua orang dilahirkan merdeka dan mempunyai martabat dan hak yang sama mereka dikaruniai akal "
        "dan hati nurani dan hendaknya bergaul satu sama lain dalam semangat persaudaraan"
    ),
    "sw": (
        "watu wote wamezaliwa huru hadhi na haki zao ni sawa wote wamejaliwa akili na dhamiri hivyo "
        "yapasa watendeane kindugu"
    ),
    "ja": (
        "すべての にんげんは うまれながらにして じゆうであり かつ そんげんと けんりとに ついて "
        "びょうどうである"
    ),
    "it": (
        "tutti gli esseri umani nascono liberi ed eguali in dignità e diritti essi sono dotati di "
        "ragione e di coscienza e devono agire gli uni verso gli altri in spirito di fratellanza"
    ),
    "hu": (
        "minden emberi lény szabadon születik és egyenlő méltósága és joga van az emberek ésszel és "
        "lelkiismerettel bírván egymással szemben testvéri szellemben kell hogy viseltessenek"
    ),
}
"""Article 1 of the Universal Declaration of Human Rights and a few words more, by espeak-ng's language."""
