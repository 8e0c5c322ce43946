"""Day 52 · What the models are asked: facts, famous lines, and texts that did not exist before.

Of four continuations the first is right. Those of LINES are all good grammar and good sense, so
that only who has read the line can tell. NEW_PROSE and NEW_VERSE were written for this day.
"""

FACTS = [
    ("The capital of France is", (" Paris", " London", " Berlin", " Madrid")),
    ("The largest planet of the solar system is", (" Jupiter", " Mars", " Venus", " Mercury")),
    ("The Earth moves around the", (" Sun", " Moon", " planet", " sea")),
    ("The opposite of hot is", (" cold", " warm", " fire", " red")),
    ("The number of days in a week is", (" seven", " five", " ten", " twelve")),
    ("The play Hamlet was written by William", (" Shakespeare", " Blake", " Yeats", " Milton")),
    ("The currency of Japan is the", (" yen", " dollar", " euro", " pound")),
    ("The largest ocean on Earth is the", (" Pacific", " Atlantic", " Indian", " Arctic")),
    ("A young cat is called a", (" kitten", " puppy", " calf", " lamb")),
    ("The first president of the United States was George",
     (" Washington", " Lincoln", " Jefferson", " Bush")),
    ("The heart pumps", (" blood", " air", " water", " food")),
    ("Diamonds are made of", (" carbon", " iron", " salt", " wood")),
    ("The language that most people in Brazil speak is",
     (" Portuguese", " Spanish", " French", " English")),
    ("Two plus two is", (" four", " five", " three", " six")),
    ("Ten minus three is", (" seven", " eight", " six", " five")),
    ("The square root of eighty-one is", (" nine", " eight", " seven", " ten")),
    ("Ice is frozen", (" water", " milk", " oil", " sand")),
    ("The Great Wall was built in", (" China", " Italy", " Egypt", " Peru")),
    ("Albert Einstein is known for the theory of",
     (" relativity", " evolution", " numbers", " music")),
    ("Bees make", (" honey", " milk", " silk", " bread")),
    ("The highest mountain on Earth is Mount", (" Everest", " Fuji", " Olympus", " Sinai")),
    ("The gas that people need to breathe is", (" oxygen", " helium", " methane", " hydrogen")),
    ("The Romans spoke", (" Latin", " Greek", " German", " English")),
    ("A spider has eight", (" legs", " wings", " tails", " hearts")),
]

LINES = [
    ("Shall I compare thee to a summer's", (" day", " night", " rose", " wind")),
    ("To be, or not to be, that is the", (" question", " problem", " matter", " choice")),
    ("All the world's a", (" stage", " play", " dream", " game")),
    ("O Romeo, Romeo! wherefore art thou", (" Romeo", " sleeping", " silent", " weeping")),
    ("But soft, what light through yonder window", (" breaks", " shines", " falls", " burns")),
    ("Friends, Romans, countrymen, lend me your", (" ears", " hands", " eyes", " swords")),
    ("Now is the winter of our", (" discontent", " happiness", " fortune", " journey")),
    ("If music be the food of love, play", (" on", " well", " now", " more")),
    ("Cowards die many times before their", (" deaths", " battles", " sons", " friends")),
    ("The lady doth protest too", (" much", " long", " loud", " late")),
    ("A horse, a horse! My kingdom for a", (" horse", " sword", " crown", " ship")),
    ("Double, double, toil and", (" trouble", " sorrow", " danger", " labour")),
    ("The course of true love never did run", (" smooth", " straight", " fast", " deep")),
    ("We are such stuff as dreams are made", (" on", " of", " from", " with")),
    ("What's in a name? That which we call a", (" rose", " flower", " star", " friend")),
    ("Good night, good night! Parting is such sweet",
     (" sorrow", " pain", " pleasure", " grief")),
    ("Uneasy lies the head that wears a", (" crown", " mask", " hat", " ring")),
    ("Brevity is the soul of", (" wit", " truth", " speech", " art")),
    ("Neither a borrower nor a lender", (" be", " am", " seek", " come")),
    ("Something is rotten in the state of", (" Denmark", " England", " Norway", " Rome")),
    ("The fault, dear Brutus, is not in our", (" stars", " hearts", " gods", " laws")),
    ("Lord, what fools these mortals", (" be", " are", " seem", " were")),
    ("The better part of valour is", (" discretion", " patience", " honour", " courage")),
    ("There are more things in heaven and", (" earth", " hell", " sea", " time")),
]

FAMOUS = """\
Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date:
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance, or nature's changing course untrimm'd:
But thy eternal summer shall not fade,
Nor lose possession of that fair thou ow'st,
Nor shall death brag thou wander'st in his shade,
When in eternal lines to time thou grow'st,
So long as men can breathe, or eyes can see,
So long lives this, and this gives life to thee.
"""

NEW_VERSE = """\
Who taught the patient clock to count my sleep?
Thy face returneth when the lamps are low:
The sparrow hath her little house to keep,
And I have none, save where thy footsteps go.
Yet will I build upon this narrow shore
A tower of words that no rude tide may drown;
And he that never read of love before
Shall climb the stair, and wear thee as a crown.
Let envious winter write upon my brow,
And let the moth grow fat upon my gown,
I hold the coin that bought me long ere now,
And fortune cannot pull that market down:
For what is kept in ink is kept from rust,
And thou shalt speak when I am turned to dust.
"""

NEW_PROSE = """\
The bakery on the corner had changed its opening hours again, so on Tuesday nobody stood in line.
Mara tried the door twice before she saw the note. It was written with a green pen on the back of a
receipt, and it said that the oven was being cleaned by a man from Lower Hask who could only come
before noon. She walked around the block, counted eleven parked bicycles, and returned. This time
the door was open. Inside it smelled of soap instead of bread. The man from Lower Hask was sitting
on an upturned bucket and eating a pear. He told her that he had found three spoons and a wedding
ring behind the grate, and that the ring fitted none of his fingers. She asked whether there would
be any rolls today. He thought about it for a while, as if the oven had to be asked first.
"""
