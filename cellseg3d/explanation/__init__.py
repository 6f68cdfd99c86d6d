"""Why a network gave an object its label: attribution, occlusion and filters."""
