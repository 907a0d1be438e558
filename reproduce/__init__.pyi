from reproduce.evaluation.classifier import Classifier as Classifier
from reproduce.evaluation.classifier import load_classifier as load_classifier
from reproduce.records import load_frame as load_frame
