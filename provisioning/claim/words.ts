/** Six words that people compare on two screens: ten bits each, from a list in which no two words are one letter apart. */
import { asBuffer } from '#runtime/core/bytes.ts';
import { invariant } from '#runtime/core/errors.ts';

const WORDS_PER_CLAIM = 6;
const BITS_PER_WORD = 10;

/** `digest`: at least 64 bits. */
export function sixWords(digest: Uint8Array): string {
  invariant(digest.length >= 8, 'six words are taken from 64 bits');
  const bits = asBuffer(digest).readBigUInt64BE();
  return Array.from({ length: WORDS_PER_CLAIM }, (_, at) => CLAIM_WORDS[Number(BigInt.asUintN(BITS_PER_WORD, bits >> BigInt(64 - BITS_PER_WORD * (at + 1))))]).join(' ');
}

/** 1,024 words; their order is part of the protocol. */
export const CLAIM_WORDS: readonly string[] = `
abbey acorn actor adapt adobe adult agent agile album alert algae alley almond alpine amber ample anchor angle antler anvil apron arcade archer arctic
arena armor aroma arrow artist aspect atlas atom attic august aunt autumn avenue avocado awake axle azure bacon badge bagel baker balcony ballad
bamboo banana banjo banner barley barn barrel basil basket battery bayou beach beaver bedrock beetle belfry berry bicycle birch biscuit bison blanket
blaze blender blossom blue boat bobcat bonfire bonus border bottle boulder bouquet bowl bracket branch brass bread breeze brick bridge bronze brook
bubble bucket budget buffalo bugle builder bumper bundle burrow butter button buzzard cabbage cabin cable cactus camel camera canal candle canoe
canvas canyon captain caramel caravan cargo carpet carrot cartoon carve cashew castle cavern cedar celery cellar cement center cereal chain chalk
chamber channel chapel chariot charm cheese cherry chess chicken chimney chisel chorus cider cinema circle citrus city clam cliff climate clinic cloak
cloud clover coach coast cobalt cobra coconut coffee coin comet compass concert copper coral corner cosmos cottage cotton council country cousin
coyote crab cradle crane crater crayon cream creek cricket crisp crocus crow crystal cube cuckoo curtain custard cycle cymbal cypress dagger dahlia
dairy dance dapple dawn decade deck deer delta denim depot desert detail dial diamond diary diesel digit dinner diploma ditch dolphin domain domino
donkey donor doorway dough dove dozen dragon drama drawer dress drift drum dune duplex dusk dynamo eagle early earth easel eastern echo eclipse edge
editor effort eight elbow elder emblem emerald empire engine enjoy entry epic equal eraser escort essay estate evening exhibit exotic expert fabric
falcon family famous fancy farmer father faucet fence fennel fern fiber fiddle field figure filter finch finger fire fish flag flame flannel flask
flavor fleet flint float flock flora flour flower flute foam focus foil folder forest fork formula fossil freckle fresh friend fringe frog frost fruit
fudge furnace future galaxy gallery gallop garage garden garlic garnet gate gazelle gear gecko general gentle geyser giant giraffe glacier glass
glider globe glory goblet gold gondola goose gopher gourd grain granite grape gravel green griffin grill grove guard guest guide guitar gulf gymnast
gypsum habit hail hammer hamster harbor harness harp harvest hatch haven hawk hazel heart heather heel helmet hemlock herald herb heron hickory
highway hill hinge hippo hobby hockey holiday holly honey hood horizon hornet horse hotel hound hour huddle humble hummus hunter husky hybrid iceberg
icicle idea idol igloo iguana image impact import inbox index indigo infant inlet insect island item ivory jacket jaguar jasmine jazz jelly jersey
jewel jigsaw journal juggle juice junior juniper jury karate kayak keeper kelp kernel kettle kidney kingdom kiosk kitchen kite kitten kiwi knee knight
knot koala label ladder ladle lagoon lake lamp lantern larch lasso lattice laurel lava leader leaf league ledger legend lemon lentil leopard lesson
letter lettuce level liberty library lilac lily lime limit linen lion liquid lizard llama lobster locker locust lodge lofty logic lotus lumber lunar
lunch lupine lyric machine magnet magpie maize mammal mango mansion mantle maple marble margin marina market marsh mascot mason matrix meadow medal
medley melody melon memory mentor mercury mesa meteor metro mile mineral minnow mint minute mirror mobile model module molar moment monarch month moon
morning mosaic moss motor mouse muffin mural muscle museum music muslin mustang myrtle mystery napkin nature navy nebula nectar needle neon nephew
nest network neutral nickel nimble noble nomad noodle north notion novel nugget nurse nutmeg nylon nymph oasis oatmeal object oboe ocean octave
octopus office olive omega omelet onion onyx opal open opera orange orbit orchard orchid organ origin osprey ostrich otter outpost oxygen oyster ozone
pacific package paddle padlock pagoda paint palace palm panda panel panther papaya paper parade parcel parent park parsley partner passage pasta path
patio pattern peacock peanut pearl pebble pecan pelican pencil penguin pepper perch perfume permit petal phantom phone photo piano picnic picture
pigeon pigment pillow pilot pine pioneer pirate pitcher pixel pizza plain planet plaster plateau platinum plaza plum pocket podium poem poetry polka
pollen pond poplar poppy portal postcard potato pottery powder prairie present pretzel primrose prince prism prize profile project prune public pulley
pulse puma pumpkin pupil puppet purple puzzle pyramid python quail quarry quartz queen quick quiet quill quince quiver quota rabbit raccoon radar
radio radish raft railway raisin rapid ravine razor reactor recipe record reef region relay reptile rescue resin result rhino rhubarb rhythm ribbon
rice ripple river roadside robin robot rodeo roller romance roof rooster rope rosemary royal rubber ruby rudder ruler runner rustic safari saffron
sage sailor salad salmon salute sand sapphire sardine satchel satin saturn sauce savanna scale scarf scholar school science scooter scout screen
scroll sculptor seagull season second seed sequoia shadow shark sheep shelf shelter shepherd sheriff shield shore shoulder shovel shrimp shuttle
sickle signal silk silver simple siren sister sketch skunk slate sleeve slipper slope smoke snack snail snow soap soccer soda soldier solid sonar song
sonnet soprano sorrel south sparrow spatula spear spectrum sphere spice spider spinach spiral spirit sponge spoon sport spring spruce squad square
squash stable stadium staff stamp star statue steam steel stereo stone stork strand street stucco studio summer summit sunset surface surgeon swallow
swan sweater swift symbol syrup system tablet talent tank tape target tassel taxi teacher teapot temple tennis tent terrace textile theater theory
thermal thicket thimble thistle thorn thread throne thumb thunder thyme tiger timber tinsel tissue tomato topaz torch tornado tortoise totem toucan
tower town tractor trade trail trapeze treasure tribe trident trigger trolley trombone trophy tropic trout truck trumpet truth tuba tulip tundra
tunnel turban turbine turkey turnip turtle tutor twilight twin typist umbrella uncle unicorn uniform unit universe upland upper urchin usher utopia
vacuum valve vanilla vapor vault vector velvet vendor venture veranda verse vessel viaduct victory video view villa vinegar violet violin virtue
vision visitor vivid vocal volcano volley volume voyage vulture waffle wagon waiter wallet walnut walrus waltz warbler wasp wave wedding weekend whale
wheat whisker window wing winter wisdom wolf wombat wonder wool workshop wren yacht yeast yellow yeoman yogurt young yucca zealot zebra zenith zephyr
zero zigzag zinc zipper zodiac zucchini
`.trim().split(/\s+/);
