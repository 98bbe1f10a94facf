"""Words, known tools and phrasings of the synthetic tool conversations: data only, no logic.

Everything with two versions is a dict with the keys "train" and "held_out". The held-out words
are other words, and the held-out phrasings other sentences: what is measured there is reading
the schema and the question, not remembering them.
"""


def _list(text: str) -> list[str]:
    """The words of a text, or its phrases where they are parted by "|"."""
    return [part.strip() for part in text.split("|")] if "|" in text else text.split()


# --- pools: what a string argument may say ----------------------------------------------------

POOLS = {
    "person": {
        "train": _list("""
            Anna Ben Carla David Emma Felix Grace Hugo Ines Jakob Karin Leo Marta Nils Olga Peter
            Rosa Simon Tara Victor Wanda Yusuf Zoe Adam Bella Clara Daniel Elena Frank Gina Henry
            Ivan Julia Kevin Laura Martin Nina Oscar Paula Robert Sara Thomas Ursula Walter Alice
            Bruno Cecil Diana Erik Flora Georg Helga Igor Jonas Kira Lukas Mona Nathan Ophelia Pablo
            Regina Stefan Theresa Ulrich Vera Wendy Yvonne Zachary Agnes Benedict Charlotte Dennis
            Eleanor Frederick Gwen Harriet Isabel Jerome Katherine Leonard Margaret Norman Octavia
            Patrick Rebecca Sebastian Tabitha Vincent Winston Adele Boris Celeste Douglas Edith
            Francesca Gustav Hannah Imani Joachim Kofi Lakshmi Mateo Nadia Omar Pilar Rohan Sakura
            Tariq Usha Viktor Wei Yolanda Zara Akira Bianca Conrad Delphine Emil Fatima Gregor
        """),
        "held_out": _list("""
            Amara Bjorn Chidi Dalia Esteban Freya Giorgio Hana Idris Jasper Keiko Lorenzo Mireille
            Noor Ottavia Priya Quentin Rashid Svetlana Tobias Umberto Valeria Wilhelm Xenia Yara
            Zoltan Anouk Basil Cosima Dmitri
        """),
    },
    "city": {
        "train": _list("""
            Paris|Berlin|Madrid|Rome|London|Lisbon|Vienna|Dublin|Athens|Prague|Warsaw|Budapest|
            Brussels|Zurich|Munich|Hamburg|Milan|Naples|Lyon|Porto|Seville|Geneva|Boston|Chicago|
            Denver|Dallas|Seattle|Miami|Toronto|Montreal|Sydney|Perth|Tokyo|Kyoto|Seoul|Beijing|
            Shanghai|Delhi|Mumbai|Cairo|Lagos|Nairobi|Lima|Bogota|Santiago|New York|Los Angeles|
            Mexico City|Buenos Aires|Hong Kong|Istanbul|Dubai|Singapore|Bangkok|Manila|
            Rotterdam|Antwerp|Utrecht|Bordeaux|Toulouse|Marseille|Strasbourg|Grenoble|Valencia|
            Bilbao|Malaga|Cordoba|Toledo|Florence|Venice|Bologna|Verona|Palermo|Genoa|Trieste|
            Cologne|Stuttgart|Dresden|Bremen|Nuremberg|Hanover|Salzburg|Innsbruck|Graz|Lucerne|
            Lausanne|Bern|Gdansk|Wroclaw|Lublin|Vilnius|Kaunas|Malmo|Gothenburg|Uppsala|Aarhus|
            Odense|Trondheim|Stavanger|Reykjavik|Edinburgh|Liverpool|Manchester|Bristol|Cardiff|
            Belfast|Oxford|York|Galway|Limerick|Sofia|Bucharest|Belgrade|Zagreb|Ljubljana|Sarajevo|
            Skopje|Tirana|Kyiv|Odesa|Minsk|Tbilisi|Yerevan|Baku|Ankara|Izmir|Beirut|Damascus|Amman|
            Baghdad|Tehran|Riyadh|Doha|Muscat|Karachi|Lahore|Kabul|Tashkent|Almaty|Kathmandu|Dhaka|
            Kolkata|Chennai|Jaipur|Pune|Colombo|Yangon|Phuket|Saigon|Taipei|Nagoya|Sapporo|Fukuoka|
            Hiroshima|Daegu|Guangzhou|Chengdu|Wuhan|Brisbane|Melbourne|Adelaide|Darwin|Wellington|
            Honolulu|Anchorage|Vancouver|Ottawa|Winnipeg|Halifax|Philadelphia|Baltimore|Pittsburgh|
            Cleveland|Detroit|Milwaukee|Minneapolis|Memphis|Nashville|Atlanta|Orlando|Tampa|
            New Orleans|Austin|Phoenix|Tucson|Albuquerque|Sacramento|Oakland|San Francisco|
            Las Vegas|Salt Lake City|Guadalajara|Monterrey|Tijuana|Panama City|San Juan|
            Caracas|Medellin|Guayaquil|La Paz|Cusco|Montevideo|Asuncion|Brasilia|Recife|Salvador|
            Rio de Janeiro|Marrakech|Casablanca|Algiers|Tripoli|Alexandria|Khartoum|Addis Ababa|
            Kampala|Kigali|Dakar|Abidjan|Kinshasa|Luanda|Harare|Lusaka|Maputo|Durban|Johannesburg
        """),
        "held_out": _list("""
            Oslo|Helsinki|Stockholm|Turin|Ghent|Basel|Krakow|Riga|Tallinn|Bergen|Granada|Nantes|
            Leipzig|Cork|Glasgow|Houston|Portland|Calgary|Auckland|Osaka|Busan|Hanoi|Jakarta|
            Accra|Tunis|Quito|Havana|San Diego|Cape Town|Kuala Lumpur
        """),
    },
    "country": {
        "train": _list("""
            France|Germany|Spain|Italy|Portugal|Austria|Poland|Greece|Ireland|Hungary|Belgium|
            Switzerland|Ukraine|Romania|Turkey|Egypt|Nigeria|Kenya|Morocco|Algeria|Brazil|
            Argentina|Chile|Peru|Mexico|Canada|Japan|China|India|Thailand|Vietnam|Indonesia|
            Australia|Iran|Iraq|Israel|Pakistan|Cuba|South Africa|South Korea|United Kingdom|
            Saudi Arabia|Netherlands|Luxembourg|Malta|Cyprus|Albania|Slovenia|Slovakia|Lithuania|
            Latvia|Moldova|Armenia|Azerbaijan|Kazakhstan|Uzbekistan|Afghanistan|Bangladesh|Myanmar|
            Laos|Philippines|Taiwan|Fiji|Samoa|Panama|Honduras|Guatemala|Nicaragua|Haiti|Barbados|
            Venezuela|Paraguay|Guyana|Libya|Sudan|Chad|Mali|Angola|Zambia|Zimbabwe|Botswana|Namibia|
            Mozambique|Madagascar|Tanzania|Uganda|Rwanda|Somalia|Gabon|Cameroon|Lebanon|Syria|Yemen|
            Oman|Qatar|Kuwait|Dominican Republic|El Salvador|Ivory Coast|Sierra Leone
        """),
        "held_out": _list("""
            Russia|Norway|Sweden|Finland|Denmark|Iceland|Estonia|Croatia|Serbia|Bulgaria|Georgia|
            Tunisia|Ghana|Ethiopia|Senegal|Colombia|Bolivia|Ecuador|Uruguay|Jamaica|Mongolia|
            Nepal|Malaysia|Cambodia|Jordan|New Zealand|Costa Rica|Sri Lanka
        """),
    },
    "product": {
        "train": _list("""
            lamp|chair|desk|pillow|blanket|kettle|toaster|blender|teapot|candle|mirror|carpet|
            curtain|bucket|hammer|ladder|drill|shovel|backpack|suitcase|umbrella|wallet|scarf|
            gloves|jacket|sweater|boots|sandals|notebook|pencil|marker|stapler|keyboard|monitor|
            headphones|coffee beans|olive oil|green tea|brown sugar|sea salt|armchair|bathtub|
            bookshelf|bracelet|calculator|camera|cushion|doorbell|dustpan|earrings|envelope|
            flashlight|flowerpot|freezer|frying pan|garden hose|guitar|hairbrush|helmet|
            ironing board|jigsaw|lantern|lawn mower|mattress|microphone|microscope|napkins|necklace|
            padlock|paintbrush|perfume|picnic basket|printer|raincoat|refrigerator|sewing machine|
            shampoo|skateboard|sleeping bag|sunglasses|telephone|tent|thermometer|toothbrush|towel|
            tricycle|trumpet|vacuum cleaner|vase|washing machine|watering can|wheelbarrow|whistle|
            black pepper|cocoa powder|orange juice|peanut butter|strawberry jam|vanilla sugar
        """),
        "held_out": _list("""
            compass|thermos|binoculars|harmonica|tripod|easel|anvil|hourglass|pulley|wrench|
            chisel|trellis|saddle|snorkel|rucksack|cutlery|corkscrew|tambourine|magnet|barometer|
            maple syrup|chili paste|almond flour|rose water|goat cheese
        """),
    },
    "topic": {
        "train": _list("""
            quantization|tokenizers|attention|tool calling|streaming|beam search|sampling|
            temperature|embeddings|memory use|GPU memory|batching|prompt templates|latency|
            throughput|image inputs|system prompts|context length|rotary embeddings|layer norms|
            weight loading|model sizes|JSON output|error handling|API keys|stop strings|
            random seeds|benchmarks|vision towers|chat formats|caching|4 bit loading|plotting|
            download sizes|pruning|distillation|checkpoints|learning rates|gradient clipping|
            position ids|padding|masks|residual streams|dropout|activation functions|
            matrix products|floating point numbers|unit tests|logging|progress bars|
            virtual environments|notebooks|file formats|licences|datasets|evaluation|prices|
            providers|reasoning|translation|summaries|code generation|colour channels|
            resizing pictures|audio inputs
        """),
        "held_out": _list("""
            speculative decoding|grouped query attention|the KV cache|sliding windows|
            function schemas|structured output|patch sizes|time to first token|logit bias|
            rate limits|tensor parallelism|bfloat16|vocabulary size|special tokens|perplexity|
            fine-tuning|mixed precision|retry policies|cost per token|model cards|image resizing|
            top p|weight formats|serving with vLLM|feed forward layers
        """),
    },
    "currency": {
        "train": _list("""
            EUR USD GBP JPY CHF CAD AUD CNY INR BRL MXN SGD ZAR TRY HKD TWD IDR MYR PHP VND PKR BDT
            LKR ILS AED SAR QAR KWD EGP MAD NGN KES GHS ARS COP PEN UYU BGN RSD UAH GEL KZT
        """),
        "held_out": _list("SEK|NOK|DKK|PLN|CZK|HUF|KRW|THB|NZD|CLP|ISK|RON"),
    },
    "event": {
        "train": _list("""
            Team lunch|Dentist|Yoga class|Piano lesson|Board meeting|Birthday party|Car wash|
            Budget review|Book club|Chess match|Parents evening|Flu shot|Staff meeting|
            Family dinner|Job interview|School play|Movie night|Swim practice|Project kickoff|
            House cleaning|Tennis match|Cooking class|Lunch with friends|Haircut|Oil change|
            Tax deadline|Science fair|Art exhibition|Concert rehearsal|Football training|
            Vaccination|Company picnic|Kitchen inspection|Moving day|Wedding planning|
            Poetry reading|Neighborhood meeting|Press conference|Sales training|Annual checkup|
            Camping trip|Dance lesson|Farewell party|Graduation ceremony|Housewarming|Language exam|
            Museum visit|Product launch|Game night|Weekly standup
        """),
        "held_out": _list("""
            Pottery workshop|Eye exam|Choir rehearsal|Garden tour|Ski weekend|Thesis defense|
            Fencing class|Wine tasting|Code review|Blood donation|Street fair|Quarterly audit|
            Puppet show|Alumni reunion|Harvest festival
        """),
    },
}

# Values for training beyond the pools: names and words in everyday use, written down by a language
# model for this purpose. None is, or is part of, anything held out.
FURTHER_NAMES = _list("""
    Aarhus Abuja Achernar Achilles Aconcagua Adam Adelaide Adeyemi Agra Aisha Aleppo Alice
    Almeida Alps Altair Alvarez Amaterasu Amazon Amelia Amman Anatolia Andalusia Andersson Andes
    Andromeda Annapurna Antares Anton Antwerp Apollo Ararat Arequipa Ariadne Artemis Arusha
    Ashgabat Asmara Astana Asuncion Aswan Athena Athens Atlanta Atlas Baghdad Baikal Baku
    Balaton Baldur Bali Ballarat Baltimore Bamako Bandung Banerjee Bangkok Barcelona Bari Basra
    Bauer Bavaria Beatrice Becker Beijing Beira Beirut Belem Belfast Belgrade Bendigo Benjamin
    Berlin Bern Betelgeuse Bhopal Bianchi Bilbao Bishkek Blantyre Bogota Bohemia Bologna Bonnet
    Bordeaux Boris Boston Braga Brasilia Bratislava Brennan Brigid Brisbane Bristol Brno Brown
    Bruges Bruno Brussels Bucharest Budapest Bujumbura Bukhara Bursa Cairns Cairo Callisto
    Cambridge Campbell Canopus Caracas Cardiff Carlos Cartagena Carvalho Casablanca Castillo
    Castor Catalonia Catania Caucasus Cebu Celik Cepheus Ceres Chad Charlotte Chavez Chen
    Chengdu Chennai Chevalier Chicago Chittagong Choi Chongqing Christchurch Clara Coimbra
    Cologne Columbia Constance Conti Copenhagen Corsica Crete Cruz Cuenca Curitiba Cyprus
    Daedalus Daegu Dakar Dalian Daniel Darling Darwin Davies Delaware Delft Demeter Demir Denali
    Denver Detroit Dhaka Diallo Diana Diaz Dimitrov Dionysus Dlamini Dnieper Dniester Dodoma
    Doha Douala Dresden Dubai Dublin Dubois Dundee Durban Durham Dushanbe Ebro Edward Edwards
    Eiger Elbe Elbrus Eleanor Emil Emma Enceladus Erie Eriksson Esposito Etna Euphrates Europa
    Evans Exeter Farouk Ferrari Ferreira Fez Fiji Fiona Fischer Flores Fontaine Fortaleza
    Francis Fraser Fresno Fukuoka Gallagher Gallo Galway Ganesha Ganges Ganymede Garcia Garda
    Gareth Gdansk Genoa Georgiev Gilgamesh Girard Godavari Gomez Gonzalez Graz Greco Greenland
    Gregory Greta Guangzhou Guayaquil Gupta Gutierrez Hades Haifa Haiphong Hamburg Hangzhou
    Hannah Hanover Hansen Harare Harbin Heidelberg Heimdall Henrik Hephaestus Hera Herat Hermes
    Himalaya Hiroshi Honiara Honolulu Horus Horvath Huang Hughes Hussein Ibadan Icarus Igor
    Incheon Indore Indra Indus Innsbruck Inverness Ipoh Irkutsk Irrawaddy Irtysh Isabel Isfahan
    Ishtar Islamabad Istanbul Ito Ivanov Iyer Izmir Jacob Java Jeddah Jensen Jerusalem
    Johannesburg Johansson Johnson Julia Juneau Jung Juno Jupiter Kabul Kamau Kaminski Kampala
    Kandahar Kano Kanpur Karachi Karlsson Kashmir Kaya Kazan Keita Kelly Kenji Kerala Keswick
    Kharkiv Khartoum Khoury Kigali Kilimanjaro Kim Kinabalu Kingston Kinshasa Kisumu Klein
    Kobayashi Korhonen Kovacs Kowalski Kozlov Krakatoa Krishna Krueger Kumar Kumasi Kuznetsov
    Kwame Kyiv Kyoto Kyushu Ladoga Lahore Lakshmi Lapland Larsson Lausanne Lebedev Leeds
    Lefebvre Lena Leonard Lewandowski Lhasa Libreville Liege Lille Lilongwe Limerick Limpopo
    Lisbon Liverpool Loki Lombok London Lopez Luanda Lublin Lubumbashi Lucia Lucknow Ludlow
    Lugano Lugh Lukas Lusaka Luzon Lviv Lyon Madagascar Madrid Madurai Magdalena Majorca Makalu
    Malacca Malaga Malawi Malmo Malta Managua Manaus Manchester Mancini Mandalay Maputo
    Maracaibo Marcus Marduk Margaret Marrakesh Mars Marseille Martinez Maseru Matterhorn
    Mauritius Mecca Medan Medellin Medusa Mehta Melbourne Memphis Mendoza Mensah Mercier Merida
    Michigan Mikhail Milan Mimas Mindanao Minsk Missouri Mogadishu Molnar Mombasa Monterrey
    Montevideo Montreal Morales Moreau Moretti Morozov Moscow Mosul Mueller Mukherjee Multan
    Mumbai Murmansk Murphy Murray Muscat Mwangi Mysore Nagasaki Nagpur Nagy Nairobi Nanjing
    Naples Nara Nashville Natalia Ndlovu Ndola Nelson Neptune Neumann Niamey Niamh Nicosia
    Nielsen Nieminen Niger Nikolai Nikolaidis Nile Nilsson Normandy Norwich Novikov Novosibirsk
    Nowak Nuremberg Oaxaca Odense Oder Odessa Odin Odysseus Ohio Okafor Okavango Okinawa Okonkwo
    Olga Oliveira Olsen Olympus Omaha Omsk Onega Ontario Oran Orinoco Orion Orlando Orlov Ortiz
    Oscar Osiris Ostrava Ottawa Oxford Pablo Palermo Pallas Papadopoulos Paris Park Patagonia
    Patel Patna Pegasus Penang Penelope Penzance Pereira Perm Perseus Perth Peshawar Petrov Pham
    Phobos Phoenix Pittsburgh Pluto Podgorica Polaris Pollux Popescu Popov Poseidon Potomac
    Potosi Poznan Pretoria Procyon Puebla Pune Punjab Pyrenees Qingdao Quetta Quetzalcoatl Rabat
    Rafael Rainier Ramirez Ramos Rebecca Reddy Regina Regulus Rennes Reyes Reykjavik Rhea Rhine
    Rhone Rhys Ricci Richter Rigel Rivera Riyadh Rizzo Robinson Rodriguez Romano Rome Romero
    Rosario Rossi Rousseau Ruiz Russo Saigon Sakura Salta Salvador Salween Salzburg Samara
    Samarkand Samoa Sanaa Santiago Santos Sapporo Sarajevo Sasaki Sato Saxony Schmidt Schneider
    Schwarz Seattle Sebastian Semarang Seoul Severn Seville Shanghai Sharma Sheffield Shenzhen
    Shiraz Shiva Siberia Sicily Sidorov Siena Silesia Sinclair Singapore Singh Siobhan Sirius
    Smirnov Smith Snowdon Sochi Sofia Sokolov Souza Spica Spokane Stefan Stuttgart Sullivan
    Superior Surat Susanoo Suzhou Suzuki Svoboda Sydney Szabo Tabriz Tagus Tahoe Tainan Taipei
    Takahashi Tampere Tanaka Tangier Tashkent Tasmania Tatiana Taylor Tbilisi Tehran Tenerife
    Tethys Thames Theseus Thimphu Thomas Thompson Thoth Tianjin Tiber Tigris Tijuana Timbuktu
    Timor Tirana Titan Tokyo Tonga Toronto Torres Toth Toulouse Tran Traore Trieste Tripoli
    Triton Trondheim Tucson Tulsa Turkana Tuscany Ufa Ulaanbaatar Umbria Uppsala Urals Ursula
    Urumqi Ushuaia Utrecht Valencia Valentina Valletta Valparaiso Varanasi Vasquez Vega Venice
    Venus Verona Vesuvius Victoria Vientiane Viktor Vilnius Virtanen Vishnu Vladivostok
    Volgograd Wagner Waikato Walker Walter Wang Watanabe Weber Wellington Williams Windhoek
    Winnipeg Wisniewski Wojcik Wolf Wright Wroclaw Wuhan Yamada Yamamoto Yamuna Yang Yangon
    Yangtze Yasmin Yenisei Yerevan Yilmaz York Yoshida Yukon Yusuf Zainab Zambezi Zanzibar
    Zaragoza Zeus Zhao Zhou Zielinski Zimmermann
""")
FURTHER_WORDS = _list("""
    accepted acre advanced airplane alder alpaca ant antique appetizer apple approved apricot
    apron arabic armchair aspen awl axe badger bagpipe balloon banjo barge barn basic bassoon
    bathtub bay beach bean bear bee beetle beginner beige bench bengali beret bicycle binder
    birch biscuit bison bitter black bland blanket blender blouse blue blueberry blunt bold
    bonnet boot bowl bracket brass bread breeze brick brittle broad broccoli brown bucket
    bulgarian bulky bulldozer bumpy burger burlap business butter butterfly byte cabbage cabinet
    calculator caliper calm camel cancelled candle canvas cap car carat cardamom cardboard
    cardigan cashew cashmere catalan cave celery cello celsius cement ceramic chapel checkered
    cheerful cheetah chickpea chiffon chinese chowder church cider cinnamon clamp clarinet clay
    clean cliff clipboard cloak closed clove clover coarse coat cocoa coffee colander cold
    colossal compact completed concrete cookie cool copper copy corduroy coriander cow crab
    cranberry crane cravat cream cricket crimson crisp critical crowbar crunchy cucumber cumin
    curious curry custard cymbal cypress czech daffodil daisy damp danish dark decibel delete
    delta deluxe denim desert desk dessert dew dill donkey dotted double drawer dresser dry duck
    dull dustpan dutch eagle economy edit eggplant elegant elephant elk elm enormous envelope
    eraser factory faded failed faucet felt fennel fern fierce fig file finch fir flamingo
    flannel flask flat flexible flimsy fluffy flute format fox french fresh fridge fried frost
    fuzzy gale gallery gallon garage garlic gecko geranium german giant ginger giraffe glider
    gloomy glossy glove goblet goose grainy gram granite grape grapefruit grater gray greek
    green grilled gritty grumpy guitar hacksaw hail ham hammer happy hard hare harp hat hatchet
    hawthorn hazelnut heavy hectare hedgehog helicopter heron hickory high highlighter hill
    hindi honey hopeful hot huge hungarian hurricane icelandic inactive indigo insert
    intermediate iris irish iron ivory jacket jam jasmine jeans joule jug juice junior juniper
    kale kangaroo kelvin ketchup kettle keyboard kilogram kilometer kimono king kiwi knot koala
    korean lace ladder ladle lake lamp larch lathe lavender leather lemonade lentil lettuce
    level lightning lily lime linden lion liter little lively lizard lobster locked low magenta
    magpie maize major malay mallet mandolin mango marble marigold maroon marsh massive matte
    mattress medium melon merry messy meter mile milk mill minor minute mirror mist mitten moist
    monitor moody moose mop moth motorcycle muffin muslin mustard nail newt newton nickel normal
    novice nutmeg nylon oak oboe ohm olive onion open orange oregano organ ornate otter oval owl
    oyster paid pajamas pancake panda papaya paper paperclip paprika parka parsley parsnip
    pascal pasta paused pavilion peach pear pecan pelican pen pencil pending penguin penthouse
    peony pepper persian petite piano piccolo pillow pine pineapple pink pistachio pitcher plaid
    plain plaster plastic plate plateau playful pliers plum poached polish polished polyester
    poncho pond poplar poppy porcelain portuguese potato pound powdery prairie pretzel preview
    print printer published pudding pumpkin punch purple quart queen quiet rabbit radish rainbow
    rake rare rasp raspberry raven ready recliner red redo refresh refunded rejected rename
    resolved returned rice rigid rivet roasted robin rocket romanian rough round rowboat rubber
    rubbery rug rustic sage salad salamander salt salty sandal sander sandwich satin saucepan
    saucer sausage save savory saxophone scanner scarf scarlet school screwdriver seal search
    second senior sequoia serene settings shallow sharp shed shiny shirt short shorts shower
    shrimp shy sickle silky sink skillet skirt skyscraper sled sleepy sleet slender slick slim
    slimy slipper slovak smooth snail sneaker snow sock sofa soft solemn sorbet soup sour spade
    spanish spanner sparrow spatula spicy spider sponge spongy spoon spotted spruce square squid
    squirrel stable stale stalls stamp standard stapler starter station steak steamed steel stew
    sticky stool stopped stork stove straight stream striped sturdy submarine submitted subway
    sugar suite sunflower swahili swallow swamp swan sweater swedish sweet table tall tarragon
    tart taxi teal temple tense tepid thai thick thin tidy tie tiny titanium toad tofu tomato
    ton tornado towel train tram triangle triple trivial trombone trousers truck trumpet tuba
    tugboat tulip tulle tumbler tuna turmeric turnip turquoise turtle tweed twill twin undo urdu
    valley van vase vast vegan vegetarian velvety vest view vinegar vintage violet vise vivid
    volcano wagon waiting walrus warehouse warm waterfall watt wax waxy weary week whisk
    whiteboard wide willow window wood woven wren wrinkled yard yew yogurt zoom
""")

# the parts of a syllable, for words that do not exist: how it begins, sounds and ends
SYLLABLE = (
    [
        *("", "b", "bl", "br", "c", "ch", "cl", "cr", "d", "dr", "f", "fl", "fr", "g", "gl", "gr"),
        *("h", "j", "k", "kr", "l", "m", "n", "p", "ph", "pl", "pr", "qu", "r", "s", "sc", "sh"),
        *("sk", "sl", "sm", "sn", "sp", "st", "str", "sw", "t", "th", "tr", "tw", "v", "w", "y"),
        "z",
    ],
    [*"aeiou", *"aeiou", "ai", "ea", "ee", "ia", "ie", "io", "oo", "ou"],
    [*("", "", "", "", "n", "n", "r", "l", "s", "t", "m", "d", "k", "x", "nd", "st", "rt", "ck")],
)

# families of units: both units of a conversion come from one of them
MEASURES = {
    "train": [
        ["miles", "kilometers", "meters", "feet", "yards", "inches", "centimeters"],
        ["kilograms", "pounds", "ounces", "grams", "tons"],
        ["liters", "gallons", "cups", "milliliters", "pints"],
        ["hours", "minutes", "seconds", "days", "weeks"],
        ["bytes", "kilobytes", "megabytes", "gigabytes", "terabytes"],
        ["acres", "hectares", "square meters", "square miles"],
        ["joules", "calories", "kilojoules"],
        ["degrees", "radians", "full turns"],
        ["volts", "millivolts", "kilovolts"],
        ["miles per hour", "knots", "meters per second"],
        ["bars", "pascals", "pounds per square inch"],
    ],
    "held_out": [
        ["furlongs", "nautical miles", "millimeters", "fathoms", "light years"],
        ["stones", "carats", "milligrams", "micrograms"],
        ["teaspoons", "tablespoons", "barrels", "quarts", "bushels"],
        ["decades", "months", "centuries", "milliseconds"],
        ["watts", "kilowatts", "horsepower"],
    ],
}

# "phrase": first + second, for labels, notes, comments
PHRASES = {
    "train": (
        _list("""
            old new blue quiet cold warm happy broken early late short long sweet green heavy
            light little private urgent final first second extra fresh local simple spare daily
            weekly summer ancient bitter clever curious empty famous foreign golden grateful hidden
            honest hungry modern patient perfect plain polite purple quick rough secret sharp silver
            smooth steady tender thick tiny wooden
        """),
        _list("""
            house kitchen road river order delivery meeting sample window office trip visit idea
            morning project folder group report photo letter table music shop room street engine
            story payment draft basket garden market ticket bottle candle village doctor teacher
            machine picture corner winter number circle dinner recipe poster planet border battery
            channel carpenter blueprint handbook schedule passenger satellite umbrella violin
        """),
    ),
    "held_out": (
        _list("""
            amber brisk crooked dusty eager faint gentle hollow icy jolly mellow narrow pale rusty
            silent velvet wild yellow
        """),
        _list("""
            anchor bridge canyon dolphin ember forest glacier harvest island jungle keyhole lagoon
            meadow nectar orchid pebble quarry ribbon
        """),
    ),
}

# "message": who or what + what about it + when, for messages and notes
MESSAGES = {
    "train": (
        _list("""
            dinner is ready|I will be late|the train leaves|the meeting starts|the parcel arrived|
            please call me|the car is fixed|lunch is cancelled|bring the keys|
            the printer is broken|buy milk|water the plants|the report is done|pick up the kids|
            see you
        """),
        _list("""
            today|tomorrow|tonight|at noon|at 9|at 17:30|on Monday|on Friday|next week|
            in ten minutes|after work|before lunch
        """),
    ),
    "held_out": (
        _list("""
            the concert begins|feed the cat|the flight is delayed|grandma is visiting|
            return the drill|the heating is off|we won the match|the bakery closes|
            take out the trash|your badge is here|the tickets are sold out|charge the battery
        """),
        _list("""
            at sunrise|at 21:45|on Sunday|this weekend|around midnight|next month|in half an hour|
            after the storm|on Wednesday
        """),
    ),
}

# "sentence": clumsy sentences to rewrite, subject + verb + rest
SENTENCES = {
    "train": (
        _list("""
            The company|Our school|The old museum|My neighbor|The research team|The city council|
            This small shop|The new app|The football club|A group of students|
            The railway company|An unknown author|Their youngest daughter|The chief engineer|
            Nobody in the office|The library on the corner|Each of the drivers|The tourist board|
            A well-known scientist|The owner of the hotel
        """),
        _list("""
            has decided to make a decision about|is currently in the process of changing|
            did not have no interest in|wants to be able to improve|
            was very happy about the news of|is talking again and again about|
            made an announcement concerning|has a plan which is about|
            could hardly be any less certain about|is in agreement with the others on|
            will in all likelihood never again mention|gave some thought to the question of|
            would very much like to know more about|is of the opinion that nobody understands|
            might possibly have forgotten all about|should not under any circumstances change|
            cannot be expected to pay for|has not yet been told anything about|
            took a really long look at|is more than a little bit worried about
        """),
        _list("""
            the price of its tickets|the opening hours in the summer months|
            a new building for children|the way in which the work is done|
            a large amount of free food|the future of the garden|
            the rules for all of the visitors|the cost of the whole entire project|
            the quality of the drinking water|an unexpected visit by the inspectors|
            the colour of the new uniforms|the noise during the night hours|
            the first and only edition of the book|the reasons for the long delay|
            the people who live next door|the end result of the vote
        """),
    ),
    "held_out": (
        _list("""
            The regional hospital|A famous orchestra|The laboratory|Every single passenger|
            The village bakery|The non-profit organization|Her grandfather
        """),
        _list("""
            gave consideration to the idea of|is of the opinion that nobody needs|
            has been spending a lot of time on|finally came to an agreement about|
            could not possibly be more proud of|is making preparations for
        """),
        _list("""
            the repair of the clock tower|an article that is far too long|
            the yearly meeting which happens each year|a quick and rapid solution|
            the closing of the railway line|its subsidiary in the capital city
        """),
    ),
}

# "state": what a tool's result may say
STATES = {
    "train": _list("""
        delayed ready shipped pending confirmed rejected closed active expired waiting complete
        missing paused approved empty full open blocked cancelled scheduled verified archived
        damaged offline online locked unlocked reserved refunded postponed recovered stable critical
    """),
    "held_out": _list("""
        dormant overdue stranded certified unclaimed frozen halted thriving revoked sealed vacant
        flawless
    """),
}
SKIES = {
    "train": _list("""
        sunny cloudy rainy windy foggy snowy stormy misty freezing sweltering thundery mild frosty
        breezy gloomy
    """),
    "held_out": _list("snowing overcast drizzling hazy clear humid"),
}
YEARS = {"train": [2024, 2025, 2026], "held_out": [2027, 2028]}  # the years of dates

# --- invented tools ---------------------------------------------------------------------------

VERBS = {
    "train": _list("""
        book order cancel track find create delete update rent reserve schedule rate review print
        send open close check register assign archive compare download upload share start stop
        pause approve reject move copy clean repair inspect measure publish renew return buy sell
        add remove show
    """),
    "held_out": _list("""
        arrange fetch dispatch enroll verify estimate launch collect donate refill restore tune
        export certify insure decorate
    """),
}
NOUNS = {
    "train": _list("""
        table|parcel|bike|car|flight|ticket|hotel room|report|invoice|meeting|lesson|playlist|
        recipe|garden|printer|laptop|phone|camera|boat|tent|bus|taxi|truck|concert|movie|novel|
        poem|song|photo|map|letter|postcard|package|contract|project|task|team|document|file|
        folder|website|database|server|backup|game|tournament|course|exam|class|school trip|
        doctor visit|haircut|massage|gym pass|piano|guitar|painting|sofa|fridge|washing machine|
        door|window|lamp|heater|pool|farm|horse|dog walk|cat food|pizza|cake|coffee|dinner|picnic|
        party|wedding|festival|bank card|loan|payment|refund|coupon|gift|shirt|dress|shoe order|
        bridge|road|train|ship|warehouse|factory
    """),
    "held_out": _list("""
        violin|kayak|orchard|telescope|lantern|passport|apartment|sculpture|drone|aquarium|
        subscription|podcast|greenhouse|wardrobe|typewriter|cabin|ferry|museum tour|helmet|trophy|
        quilt|robot|scooter|bakery delivery|workshop|seminar|scholarship|vaccine|parade|mural|
        canoe|hammock|chimney|puppet|cactus|beehive|sauna|tractor|satellite
    """),
}

# The words for a parameter, then what it takes: the name of a pool or generator, a range of
# integers, two floats (a number between them), a list (an enum), or bool.
PARAMETERS = {
    "train": {
        "customer": "person",
        "owner": "person",
        "driver": "person",
        "manager": "person",
        "teacher": "person",
        "contact": "person",
        "city": "city",
        "start city": "city",
        "destination": "city",
        "office": "city",
        "country": "country",
        "date": "date",
        "start date": "date",
        "due date": "date",
        "time": "time",
        "start time": "time",
        "closing time": "time",
        "product": "product",
        "item": "product",
        "accessory": "product",
        "label": "phrase",
        "title": "phrase",
        "note": "phrase",
        "comment": "phrase",
        "reason": "phrase",
        "subject": "phrase",
        "code": "code",
        "account": "code",
        "reference": "code",
        "serial number": "code",
        "email": "email",
        "count": range(1, 100),
        "quantity": range(1, 50),
        "days": range(1, 31),
        "nights": range(1, 15),
        "seats": range(1, 13),
        "floor": range(1, 41),
        "page": range(1, 500),
        "year": range(1950, 2030),
        "rooms": range(1, 12),
        "limit": range(5, 1000),
        "hours": range(1, 49),
        "copies": range(1, 200),
        "price": (1.0, 500.0),
        "amount": (1.0, 2000.0),
        "weight": (0.1, 90.0),
        "distance": (0.5, 300.0),
        "budget": (10.0, 5000.0),
        "discount": (0.5, 50.0),
        "temperature": (-20.0, 40.0),
        "rating": (1.0, 5.0),
        "size": ["small", "medium", "large", "huge"],
        "color": ["red", "green", "blue", "black", "white", "orange"],
        "priority": ["low", "normal", "high", "critical"],
        "format": ["pdf", "csv", "txt", "html"],
        "season": ["spring", "summer", "autumn", "winter"],
        "payment method": ["cash", "card", "invoice"],
        "mode": ["fast", "slow", "silent", "auto"],
        "plan": ["free", "basic", "premium"],
        "weekday": ["monday", "tuesday", "wednesday", "thursday", "friday"],
        "shape": ["round", "square", "oval"],
        "insured": bool,
        "gift wrap": bool,
        "public": bool,
        "refundable": bool,
        "guest": "person",
        "seller": "person",
        "nurse": "person",
        "player": "person",
        "sender": "person",
        "assistant": "person",
        "first name": "person",
        "town": "city",
        "airport": "city",
        "branch": "city",
        "birthplace": "city",
        "nation": "country",
        "origin": "country",
        "birthday": "date",
        "delivery day": "date",
        "last day": "date",
        "pickup time": "time",
        "alarm": "time",
        "tool": "product",
        "gift": "product",
        "material": "product",
        "headline": "phrase",
        "topic": "phrase",
        "wish": "phrase",
        "nickname": "phrase",
        "message": "message",
        "announcement": "message",
        "ticket number": "code",
        "license plate": "code",
        "coupon": "code",
        "order id": "code",
        "address": "email",
        "age": range(1, 100),
        "people": range(1, 80),
        "minutes": range(1, 240),
        "level": range(1, 60),
        "row": range(1, 45),
        "chapter": range(1, 70),
        "players": range(2, 23),
        "pieces": range(1, 400),
        "fee limit": (1.0, 300.0),
        "speed": (1.0, 250.0),
        "height": (0.3, 220.0),
        "volume": (0.1, 60.0),
        "salary": (500.0, 9000.0),
        "tip": (0.5, 30.0),
        "language": ["english", "french", "german", "spanish", "polish"],
        "taste": ["sweet", "sour", "salty", "bitter"],
        "meal": ["breakfast", "lunch", "dinner"],
        "metal": ["iron", "copper", "steel", "brass"],
        "side": ["left", "right", "middle"],
        "grade": ["poor", "fair", "good", "excellent"],
        "vehicle": ["car", "van", "truck"],
        "private": bool,
        "express": bool,
        "heated": bool,
        "signed": bool,
    },
    "held_out": {
        "visitor": "person",
        "author": "person",
        "coach": "person",
        "tenant": "person",
        "venue": "city",
        "harbor": "city",
        "hometown": "city",
        "deadline": "date",
        "arrival day": "date",
        "departure hour": "time",
        "wake up call": "time",
        "gadget": "product",
        "ingredient": "product",
        "slogan": "phrase",
        "caption": "phrase",
        "remark": "phrase",
        "badge": "code",
        "tracking key": "code",
        "locker": "code",
        "passengers": range(1, 60),
        "episodes": range(1, 120),
        "shelf": range(1, 30),
        "attempts": range(1, 10),
        "adults": range(1, 9),
        "semester": range(1, 13),
        "deposit": (20.0, 900.0),
        "voltage": (1.5, 48.0),
        "width": (0.2, 75.0),
        "dosage": (0.5, 20.0),
        "flavor": ["vanilla", "lemon", "mint", "cherry"],
        "fabric": ["wool", "linen", "silk", "cotton"],
        "urgency": ["mild", "moderate", "severe"],
        "tier": ["bronze", "silver", "gold", "platinum"],
        "seating": ["aisle", "balcony", "lounge"],
        "dialect": ["basque", "welsh", "tamil", "zulu"],
        "waterproof": bool,
        "recurring": bool,
    },
}

# names that say nothing: the descriptions must be read instead
OPAQUE_TOOLS = {
    "train": _list("""
            tool run_job action svc exec_step handler do_it plugin func endpoint op
        """),
    "held_out": _list("gateway routine callback_x proc module_hook relay agent_cmd"),
}
OPAQUE_PARAMETERS = {
    "train": _list("arg value x input field option p data setting key"),
    "held_out": _list("operand slot y entry attr token_b payload"),
}

DESCRIPTIONS = {
    "train": [
        "{Verb} {a_noun}.",
        "Use this to {verb} {a_noun}.",
        "Tool to {verb} {a_noun}.",
        "Lets you {verb} {a_noun}.",
        "{Verb} {a_noun} for the user.",
    ],
    "held_out": [
        "Helps to {verb} {a_noun}.",
        "{Verb} {a_noun} on request.",
        "Service that can {verb} {a_noun}.",
    ],
}
PARAMETER_DESCRIPTIONS = {
    "train": ["The {words}.", "{words}", "{words} of the {noun}", "Which {words}"],
    "held_out": ["The wanted {words}.", "{words} to use", "{words} (of the {noun})"],
}

# {details} are the mentions below; templates without it serve calls without arguments
QUESTIONS = {
    "train": [
        "Please {verb} {a_noun} with {details}.",
        "{Verb} {a_noun}: {details}.",
        "{Verb} {a_noun}, {details}",
        "I need to {verb} {a_noun}. Use {details}.",
        "Can you {verb} {a_noun} with {details}?",
        "I'd like to {verb} {a_noun}, {details}.",
        "{verb} {noun}, {details}",
        "Hello! Could you {verb} {a_noun} for me? {Details}.",
        "Details for the {noun}: {details}. Please {verb} it.",
        "Time to {verb} {a_noun}: {details}.",
        "{Details}. Use that to {verb} {a_noun}.",
        "My boss wants me to {verb} {a_noun} with {details}. Can you do it?",
        "We have to {verb} {a_noun}: {details}. Thanks!",
        "Would you {verb} the {noun}? {Details}.",
        "For the {noun} I want {details}. {Verb} it now.",
        "Hi, {verb} {a_noun} please ({details}).",
        "Now {verb} the {noun} with {details}.",
        "Please help me {verb} {a_noun}. {Details}.",
        "Could you {verb} this {noun}? {Details}.",
        "{Verb} the {noun} and use {details}.",
        "Here is {a_noun} that you should {verb}. {Details}.",
        "Just {verb} {a_noun}. The rest: {details}.",
        "There is {a_noun} to {verb} today, {details}.",
        "Use {details} to {verb} {a_noun}, please.",
        "Hey, can we {verb} {a_noun}? {Details}.",
        "Next, {verb} {a_noun}: {details}",
        "{a_noun}, {details}. Please {verb}.",
        "Do me a favour: {verb} {a_noun}, {details}.",
        "As soon as you can, {verb} {a_noun} ({details}).",
        "Make sure to {verb} {a_noun} with {details}.",
        "The customer asked me to {verb} {a_noun}. {Details}.",
        "How about you {verb} {a_noun}? Take {details}.",
        "I was told to {verb} {a_noun}; {details}.",
        "You may {verb} {a_noun} now. Here is what you need: {details}.",
        "{Details}: {verb} {a_noun}, please.",
        "They want us to {verb} the {noun}, {details}",
        "Please take care of this: {verb} {a_noun}, {details}.",
        "Since I have no time, {verb} {a_noun} with {details}.",
        "{Verb} {a_noun} please! {Details}!",
        "Someone has to {verb} {a_noun}. Data: {details}",
        "They are waiting for us to {verb} {a_noun}; {details}.",
        "Do {verb} {a_noun}; it has {details}.",
        "Tomorrow I will need {a_noun}, so {verb} it with {details}.",
        "{a_noun} has to be ready soon: {verb} it, {details}.",
        "On behalf of my sister: {verb} {a_noun}, {details}.",
        "One {noun}, that is {details}. You may {verb} it.",
        "Listen, {verb} {a_noun} with {details}, nothing else.",
        "By order of the chef, {verb} {a_noun} ({details}).",
    ],
    "held_out": [
        "Kindly {verb} {a_noun} using {details}.",
        "It would be great if you could {verb} {a_noun}; {details}.",
        "Good evening, my task today is to {verb} {a_noun} with {details}.",
        "Go ahead and {verb} {a_noun}. What I know: {details}.",
        "{a_noun} please, to {verb}: {details}",
        "With {details}, {verb} {a_noun}.",
        "Is it possible to {verb} {a_noun} for us? We chose {details}.",
        "Somebody must {verb} the {noun} ({details}), so do it.",
        "We want to {verb} {a_noun} tonight. {Details}.",
    ],
}
BARE_QUESTIONS = {
    "train": [
        "Please {verb} {a_noun}.",
        "{Verb} {a_noun}",
        "I need to {verb} {a_noun}.",
        "Can you {verb} {a_noun} for me?",
        "{verb} {noun}",
        "Hello! Could you {verb} {a_noun}?",
        "It is time to {verb} the {noun}.",
        "Now {verb} the {noun}, please.",
        "I want to {verb} {a_noun}.",
        "We have to {verb} {a_noun}. Thanks!",
        "My boss wants me to {verb} {a_noun}. Can you do it?",
        "Would you {verb} the {noun}?",
        "Let us {verb} {a_noun} today.",
        "Hi, just {verb} {a_noun} please.",
        "Please help me {verb} {a_noun}.",
        "Do {verb} {a_noun} now.",
        "How about you {verb} {a_noun}?",
        "There is {a_noun} to {verb}.",
        "I was told to {verb} {a_noun}.",
        "Do me a favour and {verb} {a_noun}.",
        "Make sure to {verb} {a_noun}.",
        "Next, {verb} the {noun}.",
        "{Verb} {a_noun} for my friend.",
        "As soon as you can, {verb} {a_noun}.",
        "Someone asked me to {verb} {a_noun}; please do.",
        "{a_noun}: {verb}, please.",
    ],
    "held_out": [
        "Kindly {verb} {a_noun}.",
        "It would be great if you could {verb} {a_noun}.",
        "Go ahead and {verb} {a_noun}.",
        "Good evening, my task today is to {verb} {a_noun}.",
        "Is it possible to {verb} {a_noun} for us?",
        "Somebody must {verb} the {noun}, so do it.",
        "The {noun} is what you should {verb} next.",
    ],
}
# What people say before and after a request; for the training only, which then sees more ways.
OPENINGS = _list("""
    Hello again.|Hey there!|Okay,|Sorry to bother you.|Next one.|A quick task for you.|I am back.|
    Please listen.|Right.|So,|Now this.|One question.|I hope you can help me.|It is urgent.|
    Greetings!|Dear assistant,|You there?|Let us go on.|I almost forgot.|By the way,
""")
CLOSINGS = _list("""
    Thanks!|Thank you.|That would help me a lot.|It is for my brother.|I am in a hurry.|
    No need to explain.|Thanks in advance.|That is all.|I will wait.|Is that possible?
""")
# for a tool with one parameter, whose name then need not be said
SINGLE_QUESTIONS = {
    "train": [
        "{Verb} {a_noun}: {value}",
        "Please {verb} {a_noun} for {value}.",
        "Can you {verb} {a_noun} with {value}?",
        "I want to {verb} {a_noun}, {value} please.",
        "{verb} {noun} {value}",
        "{Verb} the {noun} of {value}.",
        "Here is {a_noun} that you should {verb}: {value}",
        "Could you {verb} {a_noun}? It is {value}.",
        "{value}: {verb} {a_noun} please",
        "Use {value} to {verb} {a_noun}.",
        "Next, {verb} {a_noun}, {value}.",
        "We have {value}. Now {verb} {a_noun}.",
        "{Verb} {a_noun}, that is, {value}.",
        "{a_noun} ({value}) is to {verb} now.",
        "Let {value} be used to {verb} {a_noun}.",
        "It is {value} this time; {verb} {a_noun}.",
    ],
    "held_out": [
        "Kindly {verb} {a_noun} ({value}).",
        "Go ahead and {verb} {a_noun}, namely {value}.",
        "With {value}, {verb} {a_noun}.",
    ],
}
MENTIONS = {
    "train": [
        "{words} {value}",
        "{words} {value}",
        "{words}: {value}",
        "{words} = {value}",
        "{value} as the {words}",
        "{words} of {value}",
        "{words} is {value}",
        "{words} should be {value}",
        "{value} as {words}",
        "with {value} as its {words}",
        "{words} ({value})",
        "the {words} {value}",
        "{words}, that is {value}",
        "{words} -> {value}",
        "{value} ({words})",
        "a {words} of {value}",
        "{value} is the {words}",
        "{words} chosen as {value}",
        "{words} given as {value}",
        "{words} must be {value}",
        "{words} equals {value}",
        "{words} will be {value}",
        "{words} reads {value}",
        "{value} goes under {words}",
        "{value} in the field {words}",
        "{words} marked as {value}",
        "{words} now {value}",
        "let {words} be {value}",
    ],
    "held_out": ["{words} set to {value}", "{value} for the {words}", "{words} being {value}"],
}
SENTENCE_MENTIONS = {  # where {Details} are a sentence of their own
    "train": ["make the {words} {value}"],
    "held_out": ["we set the {words} to {value}"],
}
TWICE_QUESTIONS = {  # two calls of one invented tool
    "train": [
        "{Verb} {a_noun} with {details}, and another with {details_2}.",
        "Please {verb} two: one {noun} with {details}; one with {details_2}.",
        "I need to {verb} {a_noun} twice. First: {details}. Second: {details_2}.",
        "{Verb} {a_noun} ({details}) and then {a_noun} ({details_2}).",
        "Can you {verb} {a_noun} with {details} and also one with {details_2}?",
        "{Verb} two of them: {a_noun} with {details} and {a_noun} with {details_2}.",
        "I have two to {verb}. {a_noun}: {details}. And {a_noun}: {details_2}.",
        "Now {verb} {a_noun} with {details}, then {verb} {a_noun} with {details_2}.",
        "Two {noun} jobs for you, please {verb} both. 1: {details}. 2: {details_2}.",
        "{Verb} {a_noun}: {details}. The same with {details_2}.",
        "Would you {verb} {a_noun}, {details}, plus one more with {details_2}?",
        "Make it two: {verb} {a_noun} with {details}, and once more with {details_2}.",
        "Do this twice: {verb} {a_noun}. The first time {details}, the second time {details_2}.",
        "My boss wants us to {verb} {a_noun} ({details}) and {a_noun} ({details_2}).",
        "{Verb} one {noun} with {details} and a second {noun} with {details_2}, please.",
        "Two times {a_noun} to {verb}: {details}; {details_2}.",
        "Number one: {verb} {a_noun}, {details}. Number two: the same, but {details_2}.",
        "We need both: {a_noun} with {details}, {a_noun} with {details_2}. {Verb} them.",
        "Here are two orders to {verb} {a_noun}. A: {details}. B: {details_2}.",
        "{Verb} {a_noun} twice, once with {details}, once with {details_2}.",
        "Could you {verb} {a_noun} ({details}), and when that is done {a_noun} ({details_2})?",
    ],
    "held_out": [
        "Kindly {verb} a pair: {a_noun} using {details}, then one using {details_2}.",
        "There are two to {verb}. For {noun} one: {details}. For {noun} two: {details_2}.",
        "Go ahead and {verb} {a_noun} using {details}; afterwards do it again using {details_2}.",
    ],
}
JOINTS = {  # two requests in one turn; a line break also ends a text that is not quoted
    "train": [
        "{0} {1}",
        "{0} Also: {1}",
        "{0} And then: {1}",
        "Two things. {0} {1}",
        "{0}\n{1}",
        "1. {0}\n2. {1}",
        "Do both:\n- {0}\n- {1}",
        "{0} And {1}",
        "{0} Then, {1}",
        "{0} Next: {1}",
        "{0} I also have this for you: {1}",
        "First: {0} Second: {1}",
        "{0} At the same time: {1}",
        "{0} One more thing: {1}",
        "I have two wishes. {0} {1}",
        "{0} Oh, and {1}",
        "{0}\n\n{1}",
        "{0}\nand\n{1}",
        "* {0}\n* {1}",
        "Task 1: {0}\nTask 2: {1}",
        "Please see to the following.\n1) {0}\n2) {1}",
        "{0} Besides: {1}",
        "(1) {0}\n(2) {1}",
        "{0} My second wish: {1}",
        "Two requests at once.\n{0}\n{1}",
        "i) {0} ii) {1}",
        "{0} Furthermore: {1}",
    ],
    "held_out": [
        "{0} After that: {1}",
        "{0} My other question: {1}",
        "Both of these, please.\n{0}\n{1}",
        "a) {0}\nb) {1}",
    ],
}

# --- results of invented tools ----------------------------------------------------------------

RESULT_FIELDS = {  # key: what it holds, as for PARAMETERS
    "train": {
        "status": "state",
        "price": (1.0, 900.0),
        "total": (5.0, 4000.0),
        "id": "code",
        "score": range(1, 100),
        "balance": (-500.0, 9000.0),
        "position": range(1, 400),
        "confirmation": "code",
        "finish_date": "date",
        "slot": "time",
        "agent": "person",
        "station": "city",
        "queue_length": range(2, 900),
        "weight_limit": range(2, 365),
        "result": "state",
        "condition": "state",
        "phase": "state",
        "cost": (1.0, 700.0),
        "tax": (0.5, 300.0),
        "refund": (1.0, 900.0),
        "length": (0.5, 5000.0),
        "points": range(2, 9000),
        "remaining": range(2, 4000),
        "views": range(10, 99999),
        "capacity": range(10, 60000),
        "key": "code",
        "voucher": "code",
        "track": "code",
        "due_by": "date",
        "delivery_date": "date",
        "next_check": "date",
        "start": "time",
        "arrival": "time",
        "helper": "person",
        "inspector": "person",
        "nurse_on_duty": "person",
        "stop": "city",
        "gate_city": "city",
        "warehouse": "city",
        "gift_item": "product",
        "note_text": "phrase",
        "name": "phrase",
    },
    "held_out": {
        "stage": "state",
        "fee": (2.0, 700.0),
        "stock": range(2, 5000),
        "receipt": "code",
        "expiry": "date",
        "opening": "time",
        "clerk": "person",
        "depot": "city",
        "mileage": (10.0, 80000.0),
    },
}
RESULT_WISHES = {  # ask for one field of a longer result
    "train": [
        "{question} What is the {words}?",
        "{question} Then tell me the {words}.",
        "{question} I want to know the {words}.",
        "{question} Which {words} do you get?",
        "{question} I only need the {words}.",
        "{question} Tell me just the {words}.",
        "{question} What will the {words} be?",
        "{question} Report the {words}.",
        "{question} My question is: what {words}?",
        "{question} Afterwards give me the {words}.",
        "{question} How about the {words}?",
    ],
    "held_out": ["{question} Let me know the {words} afterwards.", "{question} And the {words}?"],
}
ERRORS = {
    "train": [
        "not found",
        "timeout",
        "bad request",
        "already exists",
        "wrong password",
        "too many users",
        "file is locked",
        "battery is low",
        "out of paper",
        "account closed",
        "no such city",
        "try again later",
        "permission denied",
        "service unavailable",
        "quota exceeded",
        "invalid value",
        "no connection",
        "internal error",
    ],
    "held_out": [
        "rate limit reached",
        "maintenance in progress",
        "unknown record",
        "payment required",
        "disk is damaged",
        "host unreachable",
    ],
}
ERROR_REPLY = "Sorry, that did not work: {error}."

# --- known tools ------------------------------------------------------------------------------


def _tool(name: str, description: str, properties: dict, required: list | None) -> dict:
    parameters = {"type": "object", "properties": properties}
    if required is not None:
        parameters["required"] = required
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


_STRING, _INTEGER, _NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}

# Each: the schema, what every parameter holds, the phrasings, and the results: what the fields
# hold, how a result may look (key → field, or plain text) and the sentences that answer.
# A phrasing that leaves an optional parameter out makes a call without it.
KNOWN = {
    # the two of the model card's own example, word for word
    "get_current_population": {
        "schema": _tool(
            "get_current_population",
            "Get the up-to-date population of a given country.",
            {
                "country": {
                    "type": "string",
                    "description": "The country to find the population of.",
                },
                "unit": {
                    "type": "string",
                    "description": "The unit for the population.",
                    "enum": ["millions", "thousands"],
                },
            },
            ["country", "unit"],
        ),
        "holds": {"country": "country", "unit": ["millions", "thousands"]},
        "train": [
            "What is the population of {country} in {unit}?",
            "How many people live in {country}? Give it in {unit}.",
            "Population of {country}, in {unit}",
            "Please look up the current population of {country} in {unit}.",
            "How many {unit} of people live in {country}?",
            "Hi! I need {country}'s population in {unit}, please.",
            "In {unit}, what is {country}'s population?",
            "I want to know how many people there are in {country} now, in {unit}.",
            "Tell me the population of {country} ({unit}).",
            "population {country} {unit}",
            "I would like to know {country}'s population. Give the answer in {unit}.",
            "How large is the population of {country}, in {unit}?",
            "Find out how many people {country} has, in {unit}.",
            "Can you check the population of {country} for me? {unit} please.",
            "{country} population ({unit})?",
            "For {country}, how many {unit} of people are there?",
            "What number of people lives in {country}? Answer in {unit}.",
            "Show me the population of {country}, unit {unit}.",
            "My report needs the population of {country} in {unit}.",
            "We were talking about {country}. How many people live there, in {unit}?",
            "Is the population of {country} known? I want it in {unit}.",
            "People in {country}, in {unit}: how many?",
            "Quick question: population of {country}, {unit}.",
            "Let me have the current population of {country} in {unit}.",
            "Do you know how many {unit} of people are living in {country}?",
            "{country}, population, {unit} please",
            "What would you say is the population of {country}? Put it in {unit}.",
            "How many people call {country} their home? I count in {unit}.",
            "I am writing about {country} and want its population, expressed as {unit}.",
        ],
        "held_out": [
            "Could you tell me, in {unit}, how big the population of {country} is?",
            "{country}: number of inhabitants in {unit}?",
            "Good morning. How populous is {country} these days, counted in {unit}?",
            "Use {unit} and tell me how many inhabitants {country} has.",
            "What's the population figure for {country}, expressed in {unit}?",
        ],
        "fields": {"n": (1.0, 400.0)},
        "results": {
            "train": [{"population": "n"}, {"country": "country", "population": "n"}, "{n} {unit}"],
            "held_out": [{"value": "n", "unit": "unit"}, {"inhabitants": "n"}, "about {n} {unit}"],
        },
        "answers": ["The population of {country} is {n} {unit}."],
    },
    "rewrite": {
        "schema": _tool(
            "rewrite",
            "Rewrite a given text for improved clarity",
            {"text": {"type": "string", "description": "The input text to rewrite"}},
            None,
        ),
        "holds": {"text": "sentence"},
        "train": [
            "Rewrite this text: {text}",
            "Please make this clearer: {text}",
            "Can you rewrite the following sentence?\n{text}",
            'Improve the wording of "{text}"',
            "Hi, please rewrite this so that it is easier to read:\n\n{text}",
            'I need a better version of "{text}"',
            "Make this text shorter and clearer.\n\n{text}",
            "rewrite: {text}",
            "Could you polish this sentence? {text}",
            "This sentence is clumsy: {text} Write it again, better.",
            "Fix the style of this: {text}",
            'Please rephrase "{text}"',
            "How could I say this better? {text}",
            "Simplify the following: {text}",
            "Please edit this text for me.\n{text}",
            '"{text}" sounds wrong. Can you reword it?',
            "Reword this, please:\n{text}",
            "I wrote this, but it is hard to understand: {text}",
            "Can you tidy up this sentence: {text}",
            "Here is a sentence that needs work:\n\n{text}\n\nPlease improve it.",
            'Turn "{text}" into good English.',
            "My teacher does not like this sentence. Help me with it: {text}",
            "Clean up the text below.\n{text}",
            "Find a better way to put this: {text}",
            "Paraphrase the paragraph that follows.\n\n{text}",
            "Would you correct the style here? {text}",
            "Brush this up: {text}",
            'Put "{text}" more simply.',
            "The next sentence is not good enough. {text}",
            'Word this differently: "{text}"',
            "Can the passage below be said in fewer words?\n\n{text}",
            "My boss calls this unreadable: {text}",
            "Give this text a clearer form.\n{text}",
            "Straighten this out, please: {text}",
        ],
        "held_out": [
            "Could you please make the below article more concise?\n\n{text}",
            'Say this in plainer words: "{text}"',
            "The following reads badly, mend it: {text}",
            "Here is my draft. Give me an improved one.\n{text}",
        ],
        "fields": {"new": "message"},
        "results": {
            "train": [{"text": "new"}, {"result": "new"}, "{new}"],
            "held_out": [{"action": "rewrite", "outcome": "new"}, {"rewritten": "new"}],
        },
        "answers": ["Here is the new text: {new}"],
    },
    "convert_units": {
        "schema": _tool(
            "convert_units",
            "Convert a value from one unit to another.",
            {"value": _NUMBER, "from_unit": _STRING, "to_unit": _STRING},
            ["value", "from_unit", "to_unit"],
        ),
        "holds": {"value": (0.5, 900.0), "from_unit": "measure", "to_unit": "measure"},
        "train": [
            "Convert {value} {from_unit} to {to_unit}.",
            "How many {to_unit} are {value} {from_unit}?",
            "What is {value} {from_unit} in {to_unit}?",
            "{value} {from_unit} in {to_unit}",
            "Please convert {value} {from_unit} into {to_unit}.",
            "I have {value} {from_unit}. How much is that in {to_unit}?",
            "Hello, can you turn {value} {from_unit} into {to_unit}?",
            "Give me {value} {from_unit} as {to_unit}.",
            "In {to_unit}, how much is {value} {from_unit}?",
            "{value} {from_unit} are how many {to_unit}?",
            "What do {value} {from_unit} make in {to_unit}?",
            "Change {value} {from_unit} to {to_unit}.",
            "How long, big or heavy is {value} {from_unit} in {to_unit}?",
            "Tell me how many {to_unit} there are in {value} {from_unit}.",
            "I know it is {value} {from_unit}, but I need {to_unit}.",
            "Could I have {value} {from_unit} in {to_unit}?",
            "The label says {value} {from_unit}. Say that in {to_unit}.",
            "Work out {value} {from_unit} in {to_unit} for me.",
            "from {from_unit} to {to_unit}: {value}",
            "Unit conversion: {value} {from_unit}, target {to_unit}",
            "Translate {value} {from_unit} into {to_unit}.",
            "My recipe asks for {value} {from_unit}; how many {to_unit} is it?",
            "We need {to_unit}, not {from_unit}. The value is {value}.",
            "Switch {value} {from_unit} over to {to_unit}, please.",
            "How do you write {value} {from_unit} in {to_unit}?",
            "Say {value} {from_unit} as {to_unit}.",
            "{value} {from_unit}, please, but as {to_unit}",
        ],
        "held_out": [
            "Express {value} {from_unit} in {to_unit}, please.",
            "If I measured {value} {from_unit}, what would that be in {to_unit}?",
            "I need the number of {to_unit} that equals {value} {from_unit}.",
            "{to_unit} from {value} {from_unit}?",
        ],
        "fields": {"n": (0.01, 5000.0)},
        "results": {
            "train": [{"result": "n"}, {"value": "n", "unit": "to_unit"}, "{n}"],
            "held_out": [{"converted": "n"}, {"output": "n", "in": "to_unit"}, "= {n}"],
        },
        "answers": ["{value} {from_unit} are {n} {to_unit}."],
    },
    "calculate": {
        "schema": _tool(
            "calculate",
            "Evaluate an arithmetic expression.",
            {"expression": _STRING},
            ["expression"],
        ),
        "holds": {"expression": "expression"},
        "train": [
            "What is {expression}?",
            "Calculate {expression}",
            "Please compute {expression}.",
            "How much is {expression}?",
            "{expression}",
            "Can you work out {expression} for me?",
            "I need the result of {expression}.",
            "Hi! Evaluate {expression}, please.",
            "Tell me what {expression} gives.",
            "Do the sum {expression} for me.",
            "{expression} = ?",
            "What does {expression} come to?",
            "Give me the answer to {expression}.",
            "I cannot do {expression} in my head.",
            "Please do this calculation: {expression}",
            "Let me have the result: {expression}",
            "Compute: {expression}",
            "Quick, {expression}?",
            "Use the calculator for {expression}.",
            "Check {expression} for me, please.",
            "How would you calculate {expression}? I only need the number.",
            "Type {expression} into a calculator.",
            "What number is {expression}?",
            "Math question: {expression}",
            "Run the numbers: {expression}",
            "Add it up for me: {expression}",
            "Whatever {expression} is, tell me.",
            "Solution of {expression}?",
            "We get {expression} in class; the result, please.",
        ],
        "held_out": [
            "Could you solve {expression}?",
            "My homework says {expression}. What comes out?",
            "Find the value of {expression}",
            "{expression} equals what?",
        ],
        "fields": {"n": range(3, 100000)},
        "results": {
            "train": [{"result": "n"}, {"value": "n"}, "{n}"],
            "held_out": [{"answer": "n"}, {"evaluated": "n"}, "= {n}"],
        },
        "answers": ["The result is {n}."],
    },
    "search_notebooks": {
        "schema": _tool(
            "search_notebooks",
            "Search the notebooks for a topic.",
            {"query": _STRING},
            ["query"],
        ),
        "holds": {"query": "topic"},
        "train": [
            "Which notebook explains {query}?",
            "Search the notebooks for {query}.",
            "Where in the notebooks can I read about {query}?",
            "Find {query} in the notebooks.",
            "Is there a notebook on {query}?",
            "notebooks about {query}",
            "Please look for {query} in the notebooks.",
            "Hi, I want to learn about {query}. Which notebook is it in?",
            "Do the notebooks say anything about {query}?",
            "Look up {query} in the notebooks.",
            "Which of your notebooks talks about {query}?",
            "Can I read about {query} somewhere in the notebooks?",
            "Show me the notebook on {query}.",
            "I want to read up on {query}; search the notebooks.",
            "Where do the notebooks mention {query}?",
            "Search: {query}",
            "Do you have a notebook that explains {query}?",
            "Check the notebooks for {query}.",
            "My question is about {query}. Find the right notebook.",
            "Is {query} explained anywhere in these notebooks?",
            "Find me everything on {query} in the notebooks.",
            "I remember a notebook about {query}. Which one was it?",
            "Help me find {query} in the notebooks.",
            "Which notebook should I open for {query}?",
            "Go through the notebooks and look for {query}.",
            "What do the notebooks say on {query}?",
            "Can you locate {query} in the notebooks?",
            "Please dig out {query} from the notebooks.",
            "I forgot which notebook treats {query}.",
            "{query} in the notebooks, please",
        ],
        "held_out": [
            "In which of the notebooks is {query} covered?",
            "Could you hunt through the notebooks for {query}?",
            "I'm looking for the notebook that deals with {query}.",
            "{query}: which notebook has it?",
        ],
        "fields": {"n": range(10, 99), "title": "phrase"},
        "results": {
            "train": [{"notebook": "n", "title": "title"}, {"number": "n", "name": "title"}],
            "held_out": [{"hit": "n", "heading": "title"}, "{n}: {title}"],
        },
        "answers": ["Notebook {n}, {title}, is about {query}."],
    },
    "get_weather": {
        "schema": _tool(
            "get_weather",
            "Get today's weather in a city.",
            {"city": _STRING, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
            ["city"],
        ),
        "holds": {"city": "city", "unit": ["celsius", "fahrenheit"]},
        "train": [
            "What is the weather in {city}?",
            "How is the weather in {city}, in {unit}?",
            "Weather in {city}",
            "Please check the weather in {city} in {unit}.",
            "Is it warm in {city} today?",
            "Tell me today's weather for {city}.",
            "Hello! Do I need a coat in {city} today?",
            "How hot is it in {city}? Use {unit}.",
            "I'm traveling to {city}. What is the weather there?",
            "Give me the weather for {city} in {unit}, please.",
            "weather {city} {unit}",
            "How warm is it in {city}?",
            "Is it raining in {city}?",
            "Will I need sunglasses in {city} today?",
            "What should I wear in {city} today?",
            "Temperature in {city}, in {unit}, please.",
            "What is the temperature in {city} in {unit}?",
            "Is it cold in {city} at the moment? Answer in {unit}.",
            "I leave for {city} in an hour. How is the weather?",
            "Is the sun shining in {city}?",
            "Show the weather of {city} in {unit}.",
            "Could you look up how the weather is in {city}?",
            "Does it snow in {city}?",
            "Can we have a picnic in {city} today?",
            "Good day for a walk in {city}?",
            "Let me know the weather of {city}, unit {unit}.",
            "I want the temperature of {city} in {unit}.",
            "How cold is {city} now, in {unit}?",
            "My flight lands in {city}. What weather is waiting for me?",
            "Are there clouds over {city}?",
            "Can I hang the washing outside in {city}?",
            "Weather report for {city}, {unit}.",
            "Is it nice in {city} now?",
            "On the {unit} scale, how warm is {city}?",
            "If I count in {unit}, what is the temperature in {city}?",
            "Would a scarf be useful in {city} today?",
            "Is a raincoat a good idea in {city}?",
            "{city}: how is the sky?",
            "What does the thermometer in {city} show? Take {unit}.",
            "We are outdoors in {city}; will it rain on us?",
            "Describe the weather of {city}, temperatures in {unit}.",
            "Tell me how it feels out there in {city}.",
            "I only understand {unit}. How warm is {city} today?",
        ],
        "held_out": [
            "What's it like outside in {city} right now?",
            "Could you give me the forecast for {city}, with degrees in {unit}?",
            "Should I take an umbrella if I go out in {city}?",
            "{city} weather today, {unit} please",
            "How many degrees {unit} is it in {city}?",
        ],
        "fields": {"n": range(-20, 42), "sky": "sky"},
        "results": {
            "train": [
                {"temperature": "n", "sky": "sky"},
                {"city": "city", "temp": "n", "weather": "sky"},
                "{n} degrees, {sky}",
            ],
            "held_out": [{"degrees": "n", "conditions": "sky"}, "{sky} with {n} degrees"],
        },
        "answers": ["In {city} it is {sky} and {n} degrees."],
    },
    "set_timer": {
        "schema": _tool("set_timer", "Start a timer.", {"minutes": _INTEGER}, ["minutes"]),
        "holds": {"minutes": range(1, 181)},
        "train": [
            "Set a timer for {minutes} minutes.",
            "Timer, {minutes} minutes",
            "Please start a timer of {minutes} minutes.",
            "Can you set a {minutes} minute timer?",
            "Start a {minutes} minute timer, please.",
            "I need a timer for {minutes} minutes.",
            "Hi, put a timer on for {minutes} minutes.",
            "The pasta takes {minutes} minutes. Set a timer.",
            "timer {minutes} min",
            "Wake me in {minutes} minutes.",
            "Remind me in {minutes} minutes.",
            "The cake is done in {minutes} minutes. Start the timer.",
            "{minutes} minutes on the timer, please.",
            "Begin a {minutes} minute timer now.",
            "Tell me when {minutes} minutes have passed.",
            "I must leave in {minutes} minutes. Timer, please.",
            "Could you make the timer {minutes} minutes long?",
            "Please put {minutes} minutes on the clock.",
            "Alarm in {minutes} minutes",
            "Beep in {minutes} minutes.",
            "The rice has to cook for {minutes} minutes. Can you set the timer?",
            "My break lasts {minutes} minutes, start a timer.",
            "Give me a signal in {minutes} minutes.",
            "We have {minutes} minutes left. Start timing.",
            "Would you run a timer of {minutes} minutes?",
            "In {minutes} minutes I want to hear an alarm.",
            "Time {minutes} minutes, please.",
            "Sound the bell in {minutes} minutes.",
        ],
        "held_out": [
            "Let me know when {minutes} minutes are over.",
            "Could you count down {minutes} minutes for me?",
            "Ring after {minutes} minutes, please.",
            "My tea needs {minutes} minutes, please time it.",
        ],
        "fields": {"end": "time"},
        "results": {
            "train": [{"ends_at": "end"}, {"status": "started", "end": "end"}, "rings at {end}"],
            "held_out": [{"alarm": "end"}, {"ok": "yes", "until": "end"}, "running until {end}"],
        },
        "answers": ["The timer is set and ends at {end}."],
    },
    "get_current_time": {
        "schema": _tool("get_current_time", "Get the current time.", {}, []),
        "holds": {},
        "train": [
            "What time is it?",
            "What is the time now?",
            "Tell me the time.",
            "Can you tell me what time it is, please?",
            "current time",
            "Hi! What's the time?",
            "Please check the clock.",
            "I need to know the current time.",
            "Do you know what time it is?",
            "Have you got the time?",
            "What time do we have?",
            "The time, please.",
            "Is it already noon? Check the time.",
            "I have no idea what time it is.",
            "Could you look at the clock for me?",
            "What hour is it?",
            "Time check, please.",
            "Show the time.",
            "Which time is it at this moment?",
            "My phone is off, what time is it?",
            "May I ask the time?",
            "Give me the time now.",
            "Time?",
            "Say what time it is.",
            "Is it late? Look at the clock.",
            "I need the exact time.",
        ],
        "held_out": [
            "How late is it?",
            "What does the clock say right now?",
            "Could you give me the exact time of day?",
            "Good evening, I lost my watch. What time is it now?",
        ],
        "fields": {"now": "time"},
        "results": {
            "train": [{"time": "now"}, {"current_time": "now"}, "{now}"],
            "held_out": [{"clock": "now"}, "It is {now}"],
        },
        "answers": ["It is {now}."],
    },
    "exchange_rate": {
        "schema": _tool(
            "exchange_rate",
            "Look up an exchange rate.",
            {
                "base": {"type": "string", "description": "The currency to convert from."},
                "quote": {"type": "string", "description": "The currency to convert to."},
            },
            ["base", "quote"],
        ),
        "holds": {"base": "currency", "quote": "currency"},
        "train": [
            "What is the exchange rate from {base} to {quote}?",
            "How many {quote} do I get for one {base}?",
            "{base} to {quote} rate",
            "Please look up the rate of {base} in {quote}.",
            "How much {quote} is one {base}?",
            "Hi, what does one {base} cost in {quote}?",
            "I want to change {base} into {quote}. What is the rate?",
            "Give me the {base} to {quote} exchange rate.",
            "How many {quote} is one {base}?",
            "How does {base} trade in {quote} today?",
            "Current {base} {quote} exchange rate?",
            "I have {base} and need {quote}. How is the rate?",
            "If I pay one {base}, how much {quote} do I get?",
            "Check the {base} price in {quote}.",
            "Rate for {base} into {quote}, please.",
            "Convert currency: one {base} in {quote}?",
            "Please find today's exchange rate, {base} to {quote}.",
            "One {base} buys how many {quote}?",
            "Show me {base} in {quote}.",
            "Tell me the rate between {base} and {quote}.",
            "My bank sells {quote} for {base}. What is the rate now?",
            "What will I get in {quote} when I hand over a {base}?",
            "exchange {base} {quote}",
            "We pay in {base} and they want {quote}. Which rate holds?",
            "How strong is {base} compared with {quote}?",
            "The price is in {base}, and I think in {quote}: what is the exchange rate?",
            "{base}-{quote} rate now",
            "{base}:{quote}?",
            "{base} > {quote}, which rate",
            "Trading {base} for {quote}: what is the rate?",
            "How do {base} and {quote} stand to each other today?",
            "One {base}, in {quote}: how much now?",
        ],
        "held_out": [
            "What's a single {base} worth in {quote} at the moment?",
            "Could you quote me {base} against {quote}?",
            "I'm swapping {base} for {quote}; at which rate?",
            "{base}/{quote}, today's rate please",
        ],
        "fields": {"n": (0.01, 200.0)},
        "results": {
            "train": [{"rate": "n"}, {"base": "base", "quote": "quote", "rate": "n"}, "{n}"],
            "held_out": [{"price": "n", "in": "quote"}, {"mid": "n"}, "now {n}"],
        },
        "answers": ["One {base} is {n} {quote}."],
    },
    "save_note": {
        "schema": _tool(
            "save_note",
            "Save a short note.",
            {
                "text": {"type": "string", "description": "What the note says."},
                "title": {"type": "string", "description": "The note's title."},
            },
            ["text"],
        ),
        "holds": {"text": "message", "title": "phrase"},
        "train": [
            'Save a note: "{text}"',
            'Make a note that says "{text}".',
            "Note this down: {text}",
            'Please save the note "{text}" with the title "{title}".',
            'Write "{text}" in a note called "{title}".',
            "Hi, take a note: {text}",
            'Save "{text}" as a note.',
            'New note, title "{title}", text "{text}"',
            'I want to keep a note: "{text}"',
            'Remember this: "{text}"',
            "Write this down: {text}",
            "Please note: {text}",
            'Add a note saying "{text}".',
            'Store "{text}" as a note, title "{title}".',
            'Create the note "{title}": "{text}"',
            'I want to remember "{text}". Save it.',
            "Note: {text}",
            'Can you write "{text}" down for me?',
            'Put "{text}" into my notes.',
            'Make a note titled "{title}" with the text "{text}".',
            "I have to remember something: {text}",
            'Please record "{text}" in my notes.',
            "For my notes: {text}",
            'A new note, please. It says "{text}" and is called "{title}".',
            'Save for me "{text}"; call it "{title}".',
            "Take this down as a note: {text}",
            "Hold on to this: {text}",
            "Do not lose this: {text}",
            "File this away: {text}",
            "So that I will not forget it: {text}",
            'Call the note "{title}"; it should read "{text}".',
        ],
        "held_out": [
            'Could you jot down "{text}"?',
            "Keep this for later: {text}",
            'Under the title "{title}", put a note saying "{text}".',
            'Don\'t let me forget, as a note: "{text}"',
        ],
        "fields": {"id": "code"},
        "results": {
            "train": [{"id": "id"}, {"status": "saved", "note": "id"}, "saved as {id}"],
            "held_out": [{"stored": "id"}, "kept under {id}"],
        },
        "answers": ["Your note is saved as {id}."],
    },
    "create_event": {
        "schema": _tool(
            "create_event",
            "Add an event to the calendar.",
            {
                "title": _STRING,
                "date": {"type": "string", "description": "YYYY-MM-DD"},
                "time": {"type": "string", "description": "HH:MM"},
            },
            ["title", "date"],
        ),
        "holds": {"title": "event", "date": "date", "time": "time"},
        "train": [
            "Add {title} to my calendar on {date}.",
            "Put {title} on {date} at {time} in my calendar.",
            "Create the event {title} for {date}.",
            "Please add an event: {title}, {date}, {time}",
            "On {date} I have {title}. Add it to the calendar.",
            "calendar: {title}, {date} at {time}",
            "Hi! Schedule {title} on {date} at {time}, please.",
            "At {time} on {date} there is {title}. Put it in my calendar.",
            "New event {title} on {date}",
            "{title} is on {date}. Please put it into the calendar.",
            "Book {title} for {date} at {time}.",
            "I have {title} on {date} at {time}, add that.",
            "Plan {title} for {date}.",
            "Make a calendar entry: {title} on {date}",
            "Could you add {title} ({date}, {time}) to my calendar?",
            "Calendar entry for {date}, {time}: {title}",
            "Set up {title} on {date}.",
            "Note in the calendar that {title} is on {date} at {time}.",
            "We meet for {title} on {date}; create the event.",
            "Put this in the calendar. What: {title}. When: {date}.",
            "Can you schedule {title}? It is on {date} and starts at {time}.",
            "Remember {title} on {date} in my calendar, please.",
            "The {title} takes place on {date} at {time}. Create an event.",
            "Mark {date} for {title}.",
            "Add an appointment: {title}, on {date}",
            "Reserve {date}, {time}, for {title} in the calendar.",
            "{title}, {date}, begins {time}. Keep it in the calendar.",
        ],
        "held_out": [
            "Could you enter {title} in my diary for {date}?",
            "My calendar should show {title} on {date}, starting {time}.",
            "{date}, {time}: {title}. Please keep that slot in the calendar.",
            "Don't let me miss {title} on {date}; make an event.",
        ],
        "fields": {"id": "code"},
        "results": {
            "train": [{"event_id": "id"}, {"status": "created", "id": "id"}, "created {id}"],
            "held_out": [{"entry": "id"}, "booked under {id}"],
        },
        "answers": ["{title} is in your calendar for {date} (id {id})."],
    },
    "roll_dice": {
        "schema": _tool(
            "roll_dice",
            "Roll dice.",
            {"sides": _INTEGER, "count": {"type": "integer", "description": "How many dice."}},
            ["sides"],
        ),
        "holds": {"sides": range(4, 101), "count": range(2, 13)},
        "train": [
            "Roll a die with {sides} sides.",
            "Roll {count} dice with {sides} sides each.",
            "Please throw a {sides} sided die.",
            "Can you roll {count} {sides} sided dice?",
            "dice: {sides} sides",
            "I need {count} dice with {sides} sides. Roll them.",
            "Hi, roll one die of {sides} sides for me.",
            "Throw {count} dice, {sides} sides",
            "Roll a {sides} sided die, please.",
            "I need one throw of a {sides} sided die.",
            "Give me a roll of a {sides} sided die.",
            "{count} dice, {sides} sides each, roll them for me.",
            "We play a game: roll {count} dice with {sides} sides.",
            "Could you throw one die with {sides} sides?",
            "Roll {count} times a die of {sides} sides.",
            "It is my turn. Roll a die of {sides} sides.",
            "I want to roll a {sides} sided die.",
            "A roll, please: {count} dice with {sides} sides.",
            "Please roll the dice: {count} of them, {sides} sides.",
            "Use a die with {sides} sides and roll it.",
            "My die with {sides} sides is lost, throw one for me.",
            "Roll, {sides} sides",
            "How many do I get with {count} dice of {sides} sides?",
            "Take {count} dice that have {sides} sides and throw them.",
            "Toss {count} dice; each of them has {sides} sides.",
            "{sides} sides on each of {count} dice. Throw.",
        ],
        "held_out": [
            "Let a die decide, it has {sides} sides.",
            "Could you cast {count} dice for me? Every one has {sides} sides.",
            "With dice of {sides} sides, throw {count} of them.",
            "We need a random throw: {sides} sides, a single die.",
        ],
        "fields": {"n": range(1, 900)},
        "results": {
            "train": [{"total": "n"}, {"sum": "n"}, "{n}"],
            "held_out": [{"thrown": "n"}, "you got {n}"],
        },
        "answers": ["The dice show {n}."],
    },
    "send_message": {
        "schema": _tool(
            "send_message",
            "Send a message to a person.",
            {
                "recipient": _STRING,
                "text": _STRING,
                "urgent": {"type": "boolean"},
            },
            ["recipient", "text"],
        ),
        "holds": {"recipient": "person", "text": "message", "urgent": "flag"},
        "train": [
            'Send {recipient} the message "{text}".',
            "Message {recipient}: {text}",
            'Write to {recipient}: "{text}"',
            'Please send an {urgent} message to {recipient}: "{text}"',
            'Text {recipient} that "{text}".',
            'Can you send "{text}" to {recipient}?',
            'Hi, send this {urgent} message to {recipient}: "{text}"',
            'Send "{text}" to {recipient}, it is {urgent}.',
            "send {recipient} a message: {text}",
            'Tell {recipient} "{text}".',
            'Send a message to {recipient} saying "{text}".',
            "To {recipient}: {text}",
            'Drop {recipient} a message: "{text}"',
            'Please tell {recipient} this: "{text}"',
            'I want to write {recipient} "{text}".',
            'Message for {recipient}, {urgent}: "{text}"',
            'Inform {recipient} that "{text}".',
            'An {urgent} message for {recipient}: "{text}"',
            'Please pass "{text}" on to {recipient}.',
            'Could you message {recipient}? Write "{text}".',
            'Send {recipient} this: "{text}" and mark it {urgent}.',
            'Write {recipient} a short message: "{text}"',
            '{recipient} must read this {urgent} message: "{text}"',
            "Get a message to {recipient}: {text}",
            'Forward "{text}" to {recipient}, please.',
        ],
        "held_out": [
            'Could you let {recipient} know "{text}"?',
            '{recipient} should get the message "{text}" from me.',
            'It\'s {urgent}: message {recipient} saying "{text}".',
            "A line to {recipient}, please: {text}",
        ],
        "fields": {"id": "code", "at": "time"},
        "results": {
            "train": [{"status": "sent", "time": "at"}, {"sent_at": "at"}, "sent at {at}"],
            "held_out": [{"delivered": "at"}, "left the outbox at {at}"],
        },
        "answers": ["Your message to {recipient} was sent at {at}."],
    },
    "estimate_memory": {
        "schema": _tool(
            "estimate_memory",
            "Estimate the memory that a model's weights need.",
            {
                "billions": {"type": "number", "description": "Parameters in billions."},
                "bits": {"type": "integer", "enum": [4, 8, 16, 32]},
            },
            ["billions", "bits"],
        ),
        "holds": {"billions": (0.1, 400.0), "bits": [4, 8, 16, 32]},
        "train": [
            "How much memory does a model with {billions} billion parameters need at {bits} bits?",
            "Memory for {billions} billion parameters in {bits} bits",
            "Estimate the memory of a {billions} billion parameter model with {bits} bits.",
            "At {bits} bits, how big is a model of {billions} billion parameters?",
            "Please work out the memory for {billions} billion weights at {bits} bits.",
            "I have a {billions} billion parameter model. What memory does it take in {bits} bits?",
            "Will {billions} billion parameters fit at {bits} bits? Estimate the memory.",
            "Hi, how many gigabytes are {billions} billion parameters at {bits} bits?",
            "memory {billions} billion {bits} bits",
            "How many gigabytes do {billions} billion parameters take at {bits} bits?",
            "Will {billions} billion parameters fit in memory with {bits} bits? Estimate it.",
            "Memory estimate, please: {billions} billion parameters, {bits} bits",
            "My model has {billions} billion parameters. How much memory in {bits} bits?",
            "My card is small. What do {billions} billion parameters need at {bits} bits?",
            "Work out the memory of a {billions} billion model at {bits} bit.",
            "Can you calculate the memory for {billions} billion weights at {bits} bits each?",
            "What size in memory has a {bits} bit model with {billions} billion parameters?",
            "{billions} billion parameters, {bits} bits: memory?",
            "If I load {billions} billion parameters in {bits} bit, what memory will they fill?",
            "Tell me the memory for {billions} billion parameters when each has {bits} bits.",
            "How big is a {billions} billion parameter model in {bits} bits?",
            "A weight has {bits} bits and there are {billions} billion. What memory is that?",
            "Give me the size of {billions} billion parameters at {bits} bits.",
            "Which memory should I buy for {billions} billion parameters, {bits} bits each?",
        ],
        "held_out": [
            "With {bits} bits a weight, what do {billions} billion parameters occupy?",
            "Could you size a {billions} billion model stored in {bits} bits?",
            "What GPU memory should I plan for: {bits} bits, {billions} billion parameters?",
            "{billions} billion parameters loaded in {bits} bits, how large?",
        ],
        "fields": {"n": (0.2, 900.0)},
        "results": {
            "train": [{"gigabytes": "n"}, {"memory_gb": "n"}, "{n} GB"],
            "held_out": [{"gb": "n"}, {"needs": "n", "unit": "GB"}, "roughly {n} GB"],
        },
        "answers": ["It needs {n} GB."],
    },
    "list_notebooks": {
        "schema": _tool("list_notebooks", "List all notebooks.", {}, []),
        "holds": {},
        "train": [
            "Which notebooks are there?",
            "List the notebooks.",
            "Show me all notebooks.",
            "Please list every notebook.",
            "What notebooks do you have?",
            "list notebooks",
            "Hi! Can I see the list of notebooks?",
            "How many notebooks are there?",
            "I'd like an overview of the notebooks.",
            "Show all notebooks.",
            "Tell me which notebooks you have.",
            "What are the notebooks called?",
            "I would like to see every notebook.",
            "Print the list of notebooks.",
            "Which notebooks can I open?",
            "Is there a list of the notebooks?",
            "Please show me what notebooks there are.",
            "notebook list",
            "Let me see the notebooks.",
            "How many notebooks are there, and which?",
            "Name all the notebooks, please.",
            "Read me the names of the notebooks.",
            "Which notebooks can one pick?",
            "I have just arrived. What notebooks are here?",
            "Go over all of the notebooks for me.",
        ],
        "held_out": [
            "Give me the names of the whole set of notebooks.",
            "What can I choose from among the notebooks?",
            "Could you enumerate the notebooks for me?",
            "I'm new here, which notebooks exist?",
        ],
        "fields": {"n": range(10, 90), "first": "phrase"},
        "results": {
            "train": [{"count": "n", "first": "first"}, "{n} notebooks, the first is {first}"],
            "held_out": [{"notebooks": "n", "begins_with": "first"}],
        },
        "answers": ["There are {n} notebooks; the first is {first}."],
    },
}

# one request for two values of one known tool; {0} and {1} are the two
PAIRS = {
    "get_weather": (
        "city",
        {
            "train": [
                "What is the weather in {0} and in {1}?",
                "Compare the weather in {0} and {1}.",
                "Weather in {0} and {1}, please.",
                "Is it warmer in {0} or in {1}?",
                "How is the weather in {0}, and how is it in {1}?",
                "Tell me the weather in {0} and also in {1}.",
                "Which of the two has better weather, {0} or {1}?",
                "Weather for two cities: {0}, {1}.",
                "I am in {0} today and in {1} tonight. How is the weather in each?",
                "Check the weather in {0}, then in {1}.",
                "Do I need a coat in {0}? And in {1}?",
                "Please get the weather of both {0} and {1}.",
                "{0} weather and {1} weather, please.",
                "Is it raining in {0}, and is it raining in {1}?",
                "Show me how warm {0} and {1} are.",
                "Two places, {0} and {1}. How is the weather?",
                "First {0}, later {1}: what weather will I meet?",
                "The weather here in {0}, and there in {1}?",
            ],
            "held_out": [
                "I fly from {0} to {1}, so check the weather in both.",
                "Today's weather for these two, please: {0}, {1}.",
                "What's it like outside in {0}, and over in {1}?",
            ],
        },
    ),
    "set_timer": (
        "minutes",
        {
            "train": [
                "Set two timers, {0} minutes and {1} minutes.",
                "Start a timer for {0} minutes and another one for {1} minutes.",
                "I need timers of {0} and {1} minutes.",
                "Please start two timers: one of {0} minutes, one of {1} minutes.",
                "Timers: {0} minutes and {1} minutes.",
                "Remind me in {0} minutes and then in {1} minutes.",
                "The pasta takes {0} minutes and the sauce {1} minutes. Set both timers.",
                "Put a timer on for {0} minutes and a second one for {1} minutes.",
                "Alarm in {0} minutes, another alarm in {1} minutes.",
                "Set one timer to {0} minutes and the next to {1} minutes.",
                "Two alarms: {0} and {1} minutes.",
            ],
            "held_out": [
                "Count down {0} minutes, and separately {1} minutes.",
                "Ring after {0} minutes and again after {1} minutes.",
            ],
        },
    ),
    "calculate": (
        "expression",
        {
            "train": [
                "What is {0} and what is {1}?",
                "Calculate {0} and then {1}.",
                "Please compute both {0} and {1}.",
                "Two sums: {0} and {1}.",
                "Work out {0} and also {1}.",
                "Compare {0} with {1}.",
                "Which is larger, {0} or {1}?",
                "I need {0} and {1}, both calculated.",
                "Evaluate {0}, then evaluate {1}.",
                "Give me the results of {0} and of {1}.",
                "{0} = ? {1} = ?",
                "What do {0} and {1} come to?",
                "{0}, then {1}: the results?",
            ],
            "held_out": ["Could you solve {0} as well as {1}?", "Find the values of {0} and {1}."],
        },
    ),
    "search_notebooks": (
        "query",
        {
            "train": [
                "Search the notebooks for {0} and for {1}.",
                "Which notebook explains {0}, and which one explains {1}?",
                "Find {0} in the notebooks, and {1} too.",
                "Where do I read about {0}, and where about {1}?",
                "Look up both {0} and {1} in the notebooks.",
                "I want to learn {0} and {1}. Search the notebooks for both.",
                "Two topics to look for in the notebooks: {0} and {1}.",
                "Do the notebooks explain {0}? And {1}?",
                "Search for {0}, then for {1}.",
                "Which notebooks have {0} and {1}? Search each.",
            ],
            "held_out": [
                "In which notebooks are {0} and {1} covered? Look for each.",
                "Hunt through the notebooks twice: once for {0}, once for {1}.",
            ],
        },
    ),
}

# A sentence said before names the country; the question then says "that country".
FOLLOW_UPS = {
    "train": [
        "How many people live in that country, in {unit}?",
        "And its population in {unit}?",
        "What is that country's population in {unit}?",
        "How many {unit} of people live there?",
        "Give me the population of this country in {unit}.",
        "Please look up its population, in {unit}.",
        "In {unit}, how many people live there?",
        "Tell me that country's population ({unit}).",
    ],
    "held_out": [
        "What is the population of that country in {unit}?",
        "Then tell me, in {unit}, how many inhabitants it has.",
        "How populous is this country, counted in {unit}?",
        "Use {unit}: what is the population there?",
    ],
}
NAMINGS = {
    "train": [
        (
            "Which country is the largest on the map?",
            "The largest country on the map is {country}.",
        ),
        ("Which country is shown?", "It is {country}."),
        ("Where do you want to travel?", "I would like to see {country}."),
        ("Which country is red?", "The red country is {country}."),
        ("Name a country.", "{country} is a country."),
    ],
    "held_out": [
        (
            "Can you tell me what is the biggest country depicted on the map?",
            "The biggest country depicted on the map is {country}.",
        ),
        ("Which land covers most of the picture?", "Most of the picture is {country}."),
        ("Pick any nation.", "Let us take {country}."),
    ],
}

# --- no tool needed ---------------------------------------------------------------------------

NO_TOOL = {
    "train": [
        "Sorry, I have no tool for that.",
        "I cannot do that: none of my tools serves for it.",
        "I'm sorry, none of my tools can do this.",
        "I have no suitable tool for that.",
    ],
    "held_out": [
        "Sorry, my tools are for other things.",
        "That is not something my tools can do.",
        "I have nothing here that could do that.",
        "None of the tools I have is made for that.",
    ],
}

ERRANDS = {  # requests that none of the tools here serves
    "train": _list("""
        Turn off the lights in the kitchen.|Play some jazz.|Call my mother.|Lock the front door.|
        Order me a sandwich.|Make the living room warmer.|Start the dishwasher.|Find my keys.|
        Pay my electricity bill.|Open the garage.|Play the next song.|Take a screenshot.|
        Show me the news.|Who won the match last night?|What is on TV tonight?|
        Where is the nearest pharmacy?|When does the next train to Rome leave?|
        What is the share price of the bank today?|Mute the microphone.|Walk the dog for me.|
        Scan this document.|Buy two tickets for the cinema.|Reply to my last email.|
        Water the garden at six.|Turn the volume up.|Restart my computer.|
        How much money is in my account?|Which flights to Madrid are there tomorrow?|
        Install the latest update.|Charge my phone.
    """),
    "held_out": _list("""
        Dim the bedroom lamps.|Put on some classical music.|Ring my sister, please.|
        Is the traffic bad on the highway?|Get me a cab to the airport.|Vacuum the hallway.|
        Reserve a court for tennis.|Did my parcel leave the depot?|Switch the radio to news.|
        What are today's headlines?|Renew my library books.|Which films are on nearby?|
        Empty my spam folder.|Transfer 50 to my landlord.|Feed the goldfish.|
        Show the camera at the gate.|Preheat the oven.|How many steps did I walk today?|
        Close the blinds.|Pick a seat on my flight.
    """),
}

CHAT = {
    "train": """
Hello! | Hello! How can I help you?
Hi there | Hi! What can I do for you?
Good morning! | Good morning! How can I help?
How are you? | I am fine, thank you. How can I help you?
Thank you very much! | You are welcome!
Thanks, that was all. | You are welcome. Have a nice day!
Goodbye! | Goodbye, and take care!
Who are you? | I am a small AI assistant.
Are you a human? | No, I am an AI assistant.
Do you have feelings? | No, I am a program and have no feelings.
Can you make mistakes? | Yes. Please check what matters to you.
What can you do? | I can answer short questions and call the tools I am given.
Do you like music? | I cannot hear music, but I like to talk about it.
Do you sleep? | No, a program does not sleep.
What is your favorite color? | I have none, but many people like blue.
Tell me something nice. | You are doing well today.
I am tired. | I am sorry to hear that. A short rest may help.
I feel sad today. | I am sorry. Talking to a friend may help.
I passed my exam! | Congratulations, well done!
It is my birthday. | Happy birthday!
What is the capital of France? | The capital of France is Paris.
What is the capital of Spain? | The capital of Spain is Madrid.
What is the capital of Japan? | The capital of Japan is Tokyo.
What is the capital of Egypt? | The capital of Egypt is Cairo.
Which city is the capital of Germany? | Berlin is the capital of Germany.
What is the capital of Canada? | The capital of Canada is Ottawa.
What is the capital of Portugal? | The capital of Portugal is Lisbon.
Who wrote Hamlet? | William Shakespeare wrote Hamlet.
Who wrote Don Quixote? | Miguel de Cervantes wrote Don Quixote.
Who painted the Mona Lisa? | Leonardo da Vinci painted the Mona Lisa.
Who was the first person on the Moon? | Neil Armstrong was the first person on the Moon.
Who developed the theory of relativity? | Albert Einstein developed it.
Who composed the Ninth Symphony with the Ode to Joy? | Ludwig van Beethoven composed it.
What color is the sky on a clear day? | On a clear day the sky is blue.
What color is grass? | Grass is green.
Why is the sky blue? | Air scatters blue light more than red light.
What do bees make? | Bees make honey.
What do cows eat? | Cows mainly eat grass.
How many legs does a spider have? | A spider has eight legs.
How many days are in a week? | A week has seven days.
Which planet do we live on? | We live on the planet Earth.
Which planet is the largest? | Jupiter is the largest planet of the solar system.
What is the hottest planet? | Venus is the hottest planet.
What is at the center of the solar system? | The Sun is at its center.
What is a noun? | A noun is a word for a person, a place or a thing.
What is an adjective? | An adjective is a word that describes a noun.
What is a triangle? | A triangle is a shape with three sides.
What is a square? | A square has four equal sides and four right angles.
What is gravity? | Gravity is the force that pulls masses toward each other.
What is photosynthesis? | Plants use it to turn light, water and carbon dioxide into sugar.
What is a volcano? | A volcano is an opening from which lava and gas come out of the Earth.
What is a glacier? | A glacier is a large body of ice that moves slowly.
What is an island? | An island is land with water all around it.
What is a desert? | A desert is a place with very little rain.
What is democracy? | In a democracy the people choose their government.
What is an algorithm? | An algorithm is a list of steps that solves a problem.
What is a computer program? | A program is a list of instructions for a computer.
What is Python? | Python is a programming language.
What is a neural network? | It is a model made of many simple units that learns from data.
What is a language model? | A language model predicts the next piece of a text.
What does CPU stand for? | CPU stands for central processing unit.
What is a browser? | A browser is a program that shows web pages.
What is water made of? | Water is made of hydrogen and oxygen.
At how many degrees celsius does water freeze? | Water freezes at 0 degrees celsius.
What is ice? | Ice is frozen water.
What gas do we breathe in to live? | We need oxygen to live.
Which metal is liquid at room temperature? | Mercury is liquid at room temperature.
What is the opposite of hot? | The opposite of hot is cold.
What is the opposite of up? | The opposite of up is down.
What is another word for happy? | Another word for happy is glad.
What sound does a dog make? | A dog barks.
What is a baby cat called? | A baby cat is called a kitten.
Which animal is the largest? | The blue whale is the largest animal.
Which animal is called the king of the jungle? | The lion is called so.
Can penguins fly? | No, penguins cannot fly.
Is a whale a fish? | No, a whale is a mammal.
Which ocean is the largest? | The Pacific is the largest ocean.
Which continent is the largest? | Asia is the largest continent.
On which continent is Kenya? | Kenya is in Africa.
What language do people speak in Brazil? | Most people in Brazil speak Portuguese.
What is bread made of? | Bread is made of flour, water and yeast.
What is cheese made of? | Cheese is made of milk.
How do I boil an egg? | Put it in boiling water for about eight minutes.
Why should I brush my teeth? | It keeps them clean and healthy.
Why do leaves fall in autumn? | Trees drop them to save water in winter.
Give me a rhyme for cat. | Hat rhymes with cat.
Tell me a fruit. | An apple is a fruit.
Name a musical instrument. | The piano is a musical instrument.
Name a sport. | Football is a sport.
Is the Earth flat? | No, the Earth is round.
""",
    "held_out": """
Hey, anybody there? | Yes, I am here. What do you need?
Good evening, nice to meet you. | Good evening! Nice to meet you too.
What is your name? | I am an AI assistant without a name of my own.
Do you ever get bored? | No, I am a program and do not get bored.
Do you eat lunch? | No, I do not eat.
I appreciate your help. | I was glad to help.
See you later! | See you later!
Sorry for bothering you. | You do not bother me at all.
My team lost yesterday. | I am sorry. They may win the next one.
We just had a baby! | Congratulations to you all!
Do you dream of electric sheep? | No, I do not dream.
What is the capital of Norway? | The capital of Norway is Oslo.
Name the capital of Peru. | The capital of Peru is Lima.
Which city is Austria governed from? | Austria is governed from Vienna.
Who discovered penicillin? | Alexander Fleming discovered penicillin.
Who sculpted the statue of David in Florence? | Michelangelo sculpted it.
Who wrote Pride and Prejudice? | Jane Austen wrote it.
Who invented the telephone? | Alexander Graham Bell patented it in 1876.
How many strings has a violin? | A violin has four strings.
What do caterpillars turn into? | They turn into butterflies or moths.
What do pandas eat? | Pandas eat bamboo.
Do fish have lungs? | Most fish breathe with gills instead.
Which planet has bright rings? | Saturn has bright rings.
Which planet is nearest to the Sun? | Mercury is nearest to the Sun.
What is an eclipse? | In an eclipse one body in space hides another.
What is a verb? | A verb is a word for an action or a state.
Explain what a metaphor is. | A metaphor describes one thing as if it were another.
What is a peninsula? | A peninsula is land almost surrounded by water.
Define inflation. | Inflation is a general rise of prices.
What is a vitamin? | A vitamin is a substance that the body needs in small amounts.
What is DNA? | DNA is the molecule that carries our genes.
What does RAM mean in computing? | RAM means random access memory.
What is a compiler? | A compiler turns source code into machine code.
Which gas do plants take in? | Plants take in carbon dioxide.
What is the chemical symbol of gold? | The symbol of gold is Au.
Is glass made of sand? | Yes, mostly of sand melted at great heat.
What is the antonym of ancient? | The antonym of ancient is modern.
What is a young horse called? | A young horse is called a foal.
Which river flows through Vienna? | The Danube flows through Vienna.
What is the tallest mountain on Earth? | Mount Everest is the tallest.
Which people built Machu Picchu? | The Inca built it.
What is hummus made from? | Hummus is made from chickpeas.
Why do cats purr? | They often purr when they are content.
Suggest a hobby. | You could try drawing.
Name a vegetable. | The carrot is a vegetable.
Is chess older than football? | Yes, chess is many centuries older.
""",
}
for _split, _lines in CHAT.items():
    CHAT[_split] = [tuple(line.split(" | ")) for line in _lines.strip().splitlines()]
