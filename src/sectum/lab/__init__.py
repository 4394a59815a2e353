"""Research: datasets, the study, training, compared learners, evaluation. The product does not import it."""
