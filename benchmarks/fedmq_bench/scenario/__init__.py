"""Scenarios: what a fleet that is slow, absent, badly linked or dishonest does to accuracy, time and bytes.

    file -> data, fleet -> weather (link, timeline, attacks) -> world -> rows -> compare -> report

A file says what fleet there is; a plan of it, drawn from the file's seed, says who does what when; an engine runs the
cores through it. Which policy is compared is no part of the plan, so all policies meet the same weather.
"""
