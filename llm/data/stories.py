"""Day 07 · Endless small stories whose exact entropy is known, so that a loss has a floor.

A child or an animal loses a toy, and someone who is able to helps. Each story is one line. Names,
homes, colours and toys come back later; who can help depends on where the toy got stuck. Only a
model that looks several sentences back can know these words. Each story ends with a newline.
Left out: anything like a large vocabulary. A perfect score here is not a perfect writer.
"""

from collections import namedtuple

from llm.data.grammar import Grammar

Hero = namedtuple("Hero", "kind name She she her")
Home = namedtuple("Home", "a the")
Toy = namedtuple("Toy", "word trap")
Helper = namedtuple("Helper", "a the name She did")

HEROES = [Hero(*words.split(), "She", "she", "her") for words in
          ("girl Lily", "girl Mia", "girl Anna", "mouse Dot", "bear Rosie")]
HEROES += [Hero(*words.split(), "He", "he", "his") for words in
           ("boy Tom", "boy Ben", "fox Rufus", "hare Pip", "bear Bruno")]
HOMES = [Home("a house by the sea", "the house by the sea"), Home("an old mill", "the old mill"),
         Home("a hollow oak", "the hollow oak"), Home("a tower of stone", "the tower of stone")]
COLOURS = ["red", "blue", "green", "silver"]
TOYS = [Toy("kite", "tree"), Toy("balloon", "tree"), Toy("ball", "hole"), Toy("marble", "hole"),
        Toy("boat", "water"), Toy("raft", "water")]
HELPERS = {
    "tree": [Helper("an owl", "the owl", "Olga", "She", "flew up"),
             Helper("a squirrel", "the squirrel", "Nut", "He", "climbed up"),
             Helper("a giraffe", "the giraffe", "Gus", "He", "stretched his neck"),
             Helper("a crow", "the crow", "Cora", "She", "flapped her wings")],
    "hole": [Helper("a mole", "the mole", "Max", "He", "dug down"),
             Helper("a rabbit", "the rabbit", "Rue", "She", "hopped in"),
             Helper("a snake", "the snake", "Sam", "He", "slid inside"),
             Helper("an ant", "the ant", "Ada", "She", "called her hundred sisters")],
    "water": [Helper("an otter", "the otter", "Otto", "He", "dived in"),
              Helper("a duck", "the duck", "Daisy", "She", "paddled out"),
              Helper("a frog", "the frog", "Fred", "He", "jumped in"),
              Helper("a swan", "the swan", "Swee", "She", "swam out")]}


def words(spec):
    """Rules for single words: "little 4, shy 1" -> [(4, "little"), (1, "shy")]."""
    return [(float(item.rsplit(" ", 1)[1]), item.rsplit(" ", 1)[0]) for item in spec.split(", ")]


RULES = {
    "Story": [(5, "Once upon a time there was a <size> <Hero>"),
              (2, "There once lived a <size> <Hero>"),
              (1, "Long, long ago there was a <size> <Hero>")],
    "size": words("little 3, brave 1, shy 1, merry 1, sleepy 1, clever 1, kind 1, curious 1"),
    "Hero": [(1, "{hero.kind} named {hero.name}. {hero.She} lived in <Home>", {"hero": hero})
             for hero in HEROES],
    "Home": [(1, "{home.a}. <Loves>", {"home": home}) for home in HOMES],
    "Loves": [(2, "{hero.She} had a <fine> <Colour>"),
              (1, "The thing {hero.she} loved <most> was a <Colour>"),
              (1, "For {hero.her} birthday {hero.she} got a <fine> <Colour>")],
    "fine": words("fine 1, shiny 1, lovely 1, new 1, tiny 1, wonderful 1, pretty 1, splendid 1"),
    "most": words("most 2, best 2, more than cake 1, more than honey 1"),
    "Colour": [(1, "{colour} <Toy>", {"colour": colour}) for colour in COLOURS],
    "Toy": [(1, "{toy.word}. One <weather> <morning> {hero.she} took it to the "
                "<place {toy.trap}>, <how>. <Lose {toy.trap}>", {"toy": toy}) for toy in TOYS],
    "weather": words("sunny 2, windy 1, cold 1, warm 1, foggy 1, quiet 1, bright 1, summer 1"),
    "morning": words("morning 3, day 3, afternoon 2, evening 1"),
    "how": words("singing 1, humming a song 1, hopping all the way 1, all alone 1, smiling 1, "
                 "whistling 1, still half asleep 1, counting clouds 1"),
    "place tree": words("hill 1, meadow 1, park 1, orchard 1, village green 1"),
    "place hole": words("garden 1, field 1, road 1, woods 1, sunny yard 1"),
    "place water": words("pond 1, lake 1, river 1, beach 1, old canal 1"),
    "Lose tree": [(2, "The wind blew <hard>, and the {toy.word} got stuck in a <tall> tree. <Try>"),
                  (1, "Up, up, up went the {toy.word}, until a <tall> tree caught it. <Try>")],
    "Lose hole": [(2, "It rolled <hard>, and the {toy.word} fell into a <deep> hole. <Try>"),
                  (1, "Bump, bump, bump went the {toy.word}, right into a <deep> hole. <Try>")],
    "Lose water": [(2, "A wave came <hard>, and the {toy.word} floated far away. <Try>"),
                   (1, "Splash! The <deep> water carried the {toy.word} away. <Try>")],
    "hard": words("fast 2, suddenly 2, harder and harder 1, again and again 1"),
    "tall": words("tall 3, crooked 1, mighty 1, bare 1"),
    "deep": words("deep 3, dark 2, cold 1, muddy 1"),
    "Try": [(2, "{hero.name} <cried>. <Help>"),
            (3, "{hero.She} tried <tool>, but <fail>. {hero.name} <cried>. <Help>")],
    "cried": words("began to cry 1, cried and cried 1, sat down and sighed 1, looked very sad 1, "
                   "wanted to go home 1, did not know what to do 1"),
    "tool": words("a long stick 1, a rope 1, to reach it 1, a fishing net 1, asking nicely 1, "
                  "a ladder 1, magic words 1, with both hands 1"),
    "fail": words("it did not help 1, it was too far 1, nothing happened 1, that was no use 1"),
    "Help": [(1, "<just> then <Helper {toy.trap}>")],
    "just": words("Just 3, Right 1, But 1"),
    **{f"Helper {trap}": [(1, "{helper.a} named {helper.name} came <by>. <Ask>", {"helper": helper})
                          for helper in helpers] for trap, helpers in HELPERS.items()},
    "by": words("by 3, along 2, out of the shadows 1, to see what was wrong 1"),
    "Ask": [(2, '"Why are you so <sad>, {hero.name}?" asked {helper.the}. <Answer>'),
            (1, '"What is the matter?" said {helper.name}. <Answer>')],
    "sad": words("sad 3, quiet 1, gloomy 1, upset 1"),
    "Answer": [(2, '"I have lost my {colour} {toy.word}," {hero.she} said. <Fetch>'),
               (1, '"My {toy.word}!" said {hero.name}. "My <fine> {colour} {toy.word}!" <Fetch>')],
    "Fetch": [(2, '"I can help," said {helper.name}. {helper.She} {helper.did} and <back>. <Glad>'),
              (1, "{helper.name} nodded. {helper.She} {helper.did}, and soon {helper.the} "
                  "came back with the {toy.word}. <Glad>")],
    "back": words("brought it back 2, got it out 2, fetched it 1, saved the day 1"),
    "Glad": [(2, '"Thank you, {helper.name}!" said {hero.name}, and <hug>. <End>'),
             (1, "{hero.name} was so <happy> that {hero.she} <danced>. <End>")],
    "hug": words("gave a big hug 2, bowed 1, shared some bread and jam 1, laughed out loud 2"),
    "happy": words("happy 3, glad 2, proud 1, full of joy 1"),
    "danced": words("danced 2, clapped 2, jumped up and down 1, sang a song 1"),
    "End": [(2, "They played with the {colour} {toy.word} until <late>, and then {hero.name} "
                "went home to {home.the}.\n"),
            (1, "From then on {hero.name} and {helper.name} {helper.the} <met>.\n"),
            (1, "That night, in {home.the}, {hero.she} dreamed of a {colour} <dream>.\n")],
    "late": words("sunset 1, dinner time 1, the stars came out 1, the moon was high 1, "
                  "it rained 1, they were hungry 1, the bells rang 1, it was dark 1"),
    "met": words("were best friends 3, met every day 1, were never alone 1"),
    "dream": words("sky 1, moon 1, river 1, castle 1, forest 1, star 1, dragon 1, train 1"),
}

GRAMMAR = Grammar(RULES)


def stories(n, rng):
    """Return n independent stories, one a line. rng: np.random.Generator.

    The entropy of a long text of them is `GRAMMAR.entropy_per_character()` nats a character.
    """
    if n < 0:
        raise ValueError(f"the number of stories must be 0 or more, not {n}")
    return "".join(GRAMMAR.sample(rng)[0] for _ in range(n))
