"""The prompts of `pointsman demo`, written for it: easy to hard, as real traffic mixes them."""

from __future__ import annotations


def _prompts(text: str) -> tuple[str, ...]:
    """One prompt a paragraph; line breaks inside a paragraph are only for the reader here."""
    return tuple(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


EASY = _prompts("""
What is the capital of Portugal?

Translate 'good morning, the train is late' into Spanish.

How many minutes are there in a day?

Give me a synonym for 'quick'.

Is a tomato a fruit or a vegetable? One word.

Write a one-line birthday wish for a colleague.

Which is heavier, a kilogram of iron or a kilogram of feathers?

Convert 68 degrees Fahrenheit to Celsius.

List the primary colours.

What does the abbreviation PDF stand for?

Correct the spelling: 'I recieved the adress yesterday.'

Name three rivers in Germany.

What is 15% of 240?

Rewrite politely: 'Send me the report now.'

Who wrote Pride and Prejudice?

What is the opposite of 'ancient'?

Put these in alphabetical order: pear, apple, quince, fig.

Is this review positive or negative: 'The soup was cold and the waiter rude.'

How do you say 'thank you' in Japanese?

What is the plural of 'analysis'?

Summarise in five words: The meeting was moved from Tuesday to Thursday afternoon.

Which planet is closest to the sun?

Give a title for a short email about a changed lunch menu.

At what temperature does water boil at sea level?

Extract the city from: 'Our office at 12 Canal Street, Leeds, is closed on Monday.'

Say hello in four languages.
""")

REASONING = _prompts("""
Prove that the square root of 7 is irrational, then say where the argument fails for 9.

Three people share a debt of 1,170 in the ratio 2:3:4, and the second then pays a tenth of the
third's part. What does each pay in the end? Show every step.

A train leaves at 08:40 at 72 km/h, another follows at 09:05 at 96 km/h on the same line. When and
where is the second 10 km behind the first, and does it catch up within 120 km?

Let f be continuous on [0,1] with f(0) = f(1). Show that for every positive integer n there is an
x with f(x) = f(x + 1/n).

Five switches in a cellar control five lamps upstairs. How few trips up are enough to match all of
them, if lamps may be left on for different times? Argue that fewer do not suffice.

A test for a disease that 1 in 800 have is 97% sensitive and 94% specific. Two independent
positive results came back. How likely is the disease, and which assumption is the weakest?

Find all integers a, b with a^2 - 6b^2 = 10, or prove that there are none.

Is it ethical to lie to a patient with dementia about the death of a spouse? Weigh the views of a
Kantian, a consequentialist and a care ethicist, and come to a position of your own.

In how many ways can eight people sit at a round table if two of them must not be neighbours and
two others insist on sitting opposite each other?

A perfectly rational auction bidder values a mine at v, uniform on [0, 100], but the seller knows
v and the mine is worth 1.5 v to the bidder. What should the bidder offer, and why?

Derive the equation of motion of a bead on a rotating hoop, find its equilibria, and discuss their
stability as the angular velocity grows.

Why does the sum of the reciprocals of the primes diverge while that of the twin primes does not?
Sketch both proofs.

A contract says 'delivery within 30 days of notice or acceptance, whichever is later, unless
refused'. Notice came on 3 March, acceptance on 20 March, a refusal on 15 April. Argue both sides
on whether delivery on 18 April is late.

Compare the explanatory power of neutral theory and niche theory for tropical tree diversity, and
design an observation that would tell them apart.

A 2 kg block slides down a rough 30 degree incline, then over a frictionless loop of radius 0.4 m.
From what height must it start for the friction coefficient 0.15 to complete the loop?

Show that every group of order 45 is abelian.

A firm can hedge with a forward at 1.12 or an option at 1.10 costing 0.02. With rates equally
likely to end at 1.00, 1.10 or 1.25, which would a buyer with log utility choose? Compute it.

Explain why a Carnot engine's efficiency does not depend on its working substance, by
contradiction, and point out where reversibility is used.

Given that all A are B, some B are not C, and no C are D, which conclusions about A and D follow,
which are possible, and which are excluded? Justify each with a model.

Two doctors disagree: fever, joint pain and a rash a week after a tick bite, but a negative
antibody test. Work through the differential diagnosis and the next best test.
""")

CODE = _prompts("""
Write a Python function that reverses the words of a sentence.

What does `git rebase --onto main feature topic` do?

Write a SQL query for the second highest salary in each department, ties included.

Implement an LRU cache in Go with O(1) get and put, safe for concurrent use, and explain the
locking.

Why does this loop never end? `for (unsigned i = 10; i >= 0; i--) printf("%u", i);`

Write a regular expression that matches ISO 8601 dates but not times.

Implement Dijkstra's algorithm with a binary heap in Rust, without unsafe, and give its complexity
with the proof of correctness for non-negative weights.

Turn this into a list comprehension: result = []; for x in xs: if x > 0: result.append(x * x)

Write a bash one-liner that finds the ten largest files below the current directory.

Design a rate limiter for a fleet of stateless servers: compare token bucket and sliding window
over Redis, handle clock skew and Redis failures, and give the Lua script.

Write a Python decorator that retries a coroutine with exponential backoff and full jitter.

Find the race condition: two goroutines append to one slice guarded by a mutex, while a third
reads its length without the lock. When can it fail, and how is it fixed with the least cost?

Write a Dockerfile for a small FastAPI app that runs as a user without rights.

Parse the expression grammar `e -> e + t | t; t -> t * f | f; f -> ( e ) | number` with a
recursive-descent parser in TypeScript after removing left recursion; report error positions.

What is the difference between a list and a tuple in Python?

Implement a lock-free single-producer single-consumer ring buffer in C++20 and justify every
memory order.

Write a CSS rule that centres a div in the window.

Write a unit test in pytest for a function `slugify(text)`.
""")

TOOLS = _prompts("""
What is the weather in Lisbon tomorrow?

When does the next train to Utrecht leave from platform 4?

Use get_weather for Oslo and find_trains from Oslo to Bergen, then tell me if I should go.

Book two seats on the 14:05 to Ghent.

How warm will it be in Cairo at noon on Friday?

Find trains from Vienna to Graz after six in the evening with at most one change.

Use find_trains and book_seat: the cheapest connection from Lyon to Nice on Sunday.

Is it raining in Bergen?

Compare with get_weather the next three days in Rome and in Naples, and pick one for a hike.

I need to be in Zurich by nine. Which train should I take from Bern?

Reserve a window seat to Antwerp, in the quiet coach if there is one.

Check get_weather in Porto; if it is dry, use book_seat for the 07:30.
""")

SHAPED = _prompts("""
Extract name, date and amount from: 'Invoice of 4 May: Ms Ortega owes us 318.40 euros.'

Classify this ticket: 'The app crashes when I rotate the phone during a call.'

Turn into data: 'Meeting with Priya and Jon on Thursday at 3 in room Delta about the budget.'

Extract all medicines and doses: 'Take 400 mg of ibuprofen, and 20 mg of omeprazole at night.'

Classify the sentiment: 'Not what I had hoped for, but the support was kind.'

Extract the parties and the term: 'This lease between Harbour Ltd and T. Novak runs 36 months.'

Turn this address into fields: 'Flat 3, 18 Mill Lane, Cambridge CB1 2JW, United Kingdom'.

Label the language and the intent: 'Wo finde ich die Rechnung vom letzten Monat?'

Extract the order: 'Two flat whites, one with oat milk, and a cinnamon bun to go.'

Extract the claim and its evidence: 'Sales rose since May, as the weekly counts show.'

Classify the risk: 'Contractor will hold customer data on a personal laptop.'

Turn into data: 'Flight LX 318 from Zurich, landing 18:55 at gate B12, delayed by 20 minutes.'
""")

STREAMED = _prompts("""
Tell a short story about a signalman who finds a letter on the track.

Explain photosynthesis to a ten-year-old.

Write a limerick about a lazy cat.

Describe how a bill becomes law in a parliamentary democracy, with its usual obstacles.

Write a product description for a folding bicycle.

Explain how vaccines train the immune system, down to the role of memory B cells.

Suggest a menu for a vegetarian dinner for six.

Write an opening paragraph for a detective novel set in a lighthouse.

Explain to a beginner what an interest rate is.

Discuss whether the printing press or the steam engine changed Europe more, with a thesis.

Plan a weekend in Edinburgh for people who love books.

Explain the difference between TCP and UDP as if to a new colleague.

Write a letter of complaint about a noisy building site.

Describe the life cycle of a star of twenty solar masses, with the fusion stages in order.

Give five tips for better sleep.

Write a dialogue in which a customs officer and a philosopher argue about what a border is.
""")

LONG = _prompts("""
List every train that was more than ten minutes late.

Which entry contradicts an earlier one, and how?

Summarise these notes for the board in five sentences.

Work out from these notes which single repair would prevent the most delay, and defend it.

How many times is the signal box at Weir Junction named?

Rewrite the last entry as a message to passengers.

Is there a pattern in the weather that explains the delays? Test two hypotheses.

What happened first?
""")

NOTES = _prompts("""
{hour:02d}:{minute:02d} Train {train} passed Weir Junction {late} minutes late. Points on the east
curve were slow to answer; the crew reported {weather}. The relief driver was told, the following
freight was held at the loop, and the platform change was announced twice.

{hour:02d}:{minute:02d} Inspection of the section between Mill Halt and Weir Junction: ballast
dry, two sleepers marked for renewal, drainage open. Train {train} was given a caution and lost
{late} minutes; weather: {weather}.
""")

WEATHER = ("fog in the cutting", "light rain", "clear and cold", "strong side wind", "heat haze")
